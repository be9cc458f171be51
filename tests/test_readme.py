"""The README is true: its commands run, its examples work, its tables are those of the entry points."""

import re
import shlex
import shutil
from itertools import pairwise

import pytest
import torch
import torchvision
from conftest import PROJECT, pipeline

import models
from pipeline import cli

README = (PROJECT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.strip().splitlines()]
LAUNCHES = [line for line in COMMANDS if line.startswith("mlflow run")]


def test_continuous_integration_runs_the_two_commands():
    lines = (PROJECT / ".ci" / "run").read_text().splitlines()
    for command in COMMANDS[:2]:
        assert command in lines


def test_every_command_is_run_somewhere():
    others = [line for line in COMMANDS[2:] if line not in LAUNCHES]
    assert others == ["mlflow ui"], "run by hand before each picture; test_training.py runs the same server"


@pytest.mark.parametrize("launch", LAUNCHES)
def test_launches(environment, bars, monkeypatch, command, launch):
    # mnist from the cache, published weights from torchvision's: neither needs the network.
    shutil.copytree(bars, environment / "root" / "datasets" / "mnist")
    monkeypatch.setenv("TORCH_HOME", str(environment / "torch"))
    weights = environment / "torch" / "hub" / "checkpoints" / models.get("alexnet").weights.url.rsplit("/")[-1]
    weights.parent.mkdir(parents=True)
    if "alexnet" in launch:
        torch.save(torchvision.models.alexnet().state_dict(), weights)
    words = shlex.split(launch)
    entry = words[words.index("-e") + 1] if "-e" in words else "main"
    given = [word.split("=", 1) for flag, word in pairwise(words) if flag == "-P"]
    arguments = [part for name, value in given for part in (f"--{name}", value)]
    if entry in ("compare", "report"):
        command("main", "--dataset", str(bars), "--models", "mlp", "--val-size", "20", "--epochs", "1")
    small = {"main": ["--models", "mlp"], "train": []}.get(entry)
    if small is not None:
        arguments += [*small, "--limit", "60", "--val-size", "20", "--epochs", "1"]
    command(entry, *arguments)


def test_every_entry_point_and_parameter_is_explained():
    for name, command in cli.commands.commands.items():
        assert f"`{name}`" in README
        for option in command.params:
            assert f"`{option.opts[0].removeprefix('--').replace('-', '_')}`" in README, option.name


def test_the_examples_work_as_shown(environment):
    architecture, dataset = (block for language, block in BLOCKS if language == "python")
    for folder in ("models", "pipeline"):
        shutil.copytree(PROJECT / folder, environment / "project" / folder)
    project = environment / "project"
    (project / "models" / "linear.py").write_text(architecture)
    with (project / "pipeline" / "data.py").open("a") as file:
        file.write(dataset)
    name = re.search(r'SOURCES\["(.*?)"\]', dataset)[1]
    arguments = ["train", "--model", "linear", "--dataset", name, "--epochs", "20"]
    out, _ = pipeline(*arguments, cwd=project, env={"PYTHONPATH": str(project)})
    assert float(re.search(r"([\d.]+)% of the 360 test images", out)[1]) > 80


def test_pictures_are_there():
    pictures = re.findall(r"!\[.+?\]\((.+?)\)", README)
    assert len(pictures) >= 2
    for picture in pictures:
        assert (PROJECT / picture).stat().st_size < 400_000
