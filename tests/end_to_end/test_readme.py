"""README and docs are true: their commands run, their examples work, every parameter is explained."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise

import pandas as pd
import pytest
import torch
import torchvision
from PIL import Image
from support import PROJECT, ask, pipeline, serving

import models
from pipeline.cli import commands
from pipeline.cli import dataset as cli_dataset
from pipeline.data import grey, sources
from pipeline.registry.register import SERVED_PACKAGES

PAGES = {path: path.read_text() for path in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))}
TEXT = "\n".join(PAGES.values())
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, flags=re.DOTALL)
SHELL = [block.strip().splitlines() for language, block in BLOCKS if language == "sh"]
(OWN,) = (block for block in SHELL if any("my-digits" in line for line in block))
COMMANDS = [line for block in SHELL if block is not OWN for line in block]
(SERVE,) = (line for line in COMMANDS if line.startswith("mlflow models serve"))
(CURL,) = (line for line in COMMANDS if line.startswith("curl"))
LAUNCHES = [line for line in COMMANDS if line.startswith("mlflow run")]


def test_continuous_integration_runs_the_two_commands():
    lines = (PROJECT / ".ci" / "run").read_text().splitlines()
    for command in COMMANDS[:2]:
        assert command in lines


def test_every_command_is_run_somewhere():
    others = [line for line in COMMANDS[2:] if line not in LAUNCHES]
    models = [line for line in others if line.startswith("mlflow models ") and line != SERVE]
    assert [line for line in others if line not in models] == ["mlflow ui", SERVE, CURL], "test_pages.py runs mlflow ui"
    assert {line.split()[2] for line in models} == {"predict", "generate-dockerfile"}, "test_serve.py runs them"
    assert "mlflow run . -e playground --env-manager uv" in LAUNCHES, "test_playground.py runs it"


def parsed(launch: str) -> tuple[str, list[str]]:
    """The command and the arguments that a line of MLflow's launcher becomes."""
    words = shlex.split(launch)
    entry = words[words.index("-e") + 1] if "-e" in words else "main"
    given = [word.split("=", 1) for flag, word in pairwise(words) if flag == "-P"]
    return entry, [part for name, value in given for part in (f"--{name}", value)]


@pytest.mark.parametrize("launch", [launch for launch in LAUNCHES if "playground" not in launch])
def test_launches(environment, bars, monkeypatch, command, launch):
    # Data sets from the cache, published weights from torchvision's: neither needs the network.
    for name in ("mnist", "fashion-mnist"):
        shutil.copytree(bars, environment / "root" / "datasets" / name)
    monkeypatch.setenv("TORCH_HOME", str(environment / "torch"))
    weights = environment / "torch" / "hub" / "checkpoints" / models.get("alexnet").weights.url.rsplit("/")[-1]
    weights.parent.mkdir(parents=True)
    if "alexnet" in launch:
        torch.save(torchvision.models.alexnet().state_dict(), weights)
    entry, arguments = parsed(launch)
    small = ["--val-size", "20", "--epochs", "1", *(["--limit", "60"] if "--limits" not in arguments else [])]
    if entry in ("compare", "report", "plan", "promote"):
        command("main", "--dataset", str(bars), "--models", "mlp,cnn" if entry == "plan" else "mlp", *small)
    for dataset, model in re.findall(r"models:/(\w+)-(\w+)@champion", launch):
        command("train", "--model", model, "--dataset", dataset, "--weights", "none", *small)
        command("promote", "--model", f"{dataset}-{model}")
    (environment / "docs").mkdir()
    shutil.copy(PROJECT / "docs" / "three.png", environment / "docs")
    if entry in ("main", "train"):
        arguments += [*(["--models", "mlp"] if entry == "main" else []), *small]
    if "tuned" in arguments:
        command("tune", "--models", "mlp", "--dataset", "mnist", "--trials", "2", "--seeds", "0", *small)
    if entry == "tune":
        arguments += ["--trials", "2", "--seeds", "0", *small]
    command(entry, *arguments)


def test_a_folder_of_pictures_becomes_a_served_champion(environment, command):
    digits = sources.digits(environment).train
    for number in range(120):
        # Dark ink on paper, of many sizes, as a phone or a scanner has it.
        paper = Image.new("RGB", (90 + number, 120), (238, 232, 220))
        ink = Image.fromarray(digits.images[number]).resize((84, 84))
        paper.paste((40, 40, 70), (3 + number % 5, 20), ink)
        file = environment / "my-digits" / digits.classes[digits.targets[number]] / f"{number}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        paper.save(file)
    shutil.copy(file, environment / "photo.jpg")
    *launches, serve = OWN
    for launch in launches:
        entry, arguments = parsed(launch)
        out, _ = command(entry, *arguments, *(["--epochs", "8"] if entry == "main" else []))
        if entry == "main":
            assert "20 of its 120 images" in out and "dark on light" not in out
    uri, _ = re.search(r"-m (\S+) .* --port (\d+)", serve).groups()
    assert len(OWN) == 4
    shown = cli_dataset.frame_digit(grey.read(file, name="photo"), 28, "photo")
    with serving(uri) as port:
        (shares,) = ask(port, [shown.tolist()])["predictions"]
    answers = pd.read_csv(environment / "predictions.csv")
    assert answers["probability"][0] == pytest.approx(max(shares), abs=1e-4), "predict and the server see the same"
    assert answers["label"][0] == int(shares.index(max(shares)))


def test_a_champion_is_served_and_loaded_as_shown(champions, champions_store):
    (champions / "docs").mkdir()
    shutil.copy(PROJECT / "docs" / "three.png", champions / "docs")
    uri, shown_port = re.search(r"-m (\S+) .* --port (\d+)", SERVE).groups()
    assert f"127.0.0.1:{shown_port}/invocations" in CURL
    with serving(uri.replace("digits", "bars")) as port:
        line = CURL.replace(shown_port, str(port))
        answer = subprocess.run(["bash", "-c", line], cwd=champions, check=True, capture_output=True, text=True)
    (shares,) = json.loads(answer.stdout)["predictions"]

    (code,) = (block for language, block in BLOCKS if language == "python" and "unwrap_python_model" in block)
    both = "probabilities[0].tolist(), network(torch.from_numpy(images)).softmax(1)[0].tolist()"
    check = f"import torch\nprint({both}, sep='\\n')"
    script = code.replace("digits", "bars") + check
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    said = subprocess.run(
        [sys.executable, "-I", "-c", script], cwd=champions, env=bare, check=True, capture_output=True, text=True
    )
    for line in said.stdout.splitlines():
        assert json.loads(line) == pytest.approx(shares, abs=1e-5)


def test_every_entry_point_and_parameter_is_explained():
    for name, command in commands.commands.commands.items():
        assert f"`{name}`" in TEXT
        for option in command.params:
            assert f"`{option.opts[0].removeprefix('--').replace('-', '_')}`" in TEXT, option.name


def test_the_examples_work_as_shown(environment):
    architecture, dataset = (
        block for language, block in BLOCKS if language == "python" and re.search(r"^(RECIPE|def)", block, re.MULTILINE)
    )
    for folder in ("models", "pipeline"):
        shutil.copytree(PROJECT / folder, environment / "project" / folder)
    project = environment / "project"
    (project / "models" / "linear.py").write_text(architecture)
    with (project / "pipeline" / "data" / "sources.py").open("a") as file:
        file.write(dataset)
    name = re.search(r'SOURCES\["(.*?)"\]', dataset)[1]
    arguments = ["train", "--model", "linear", "--dataset", name, "--epochs", "20"]
    out, _ = pipeline(*arguments, cwd=project, env={"PYTHONPATH": str(project)})
    assert float(re.search(r"([\d.]+)% of the 360 test images", out)[1]) > 80


def test_pictures_are_there():
    pictures = [path.parent / name for path, text in PAGES.items() for name in re.findall(r"!\[.+?\]\((.+?)\)", text)]
    assert len(pictures) >= 2
    for picture in pictures:
        assert picture.stat().st_size < 400_000


def test_python_needs_no_more_than_the_page_says():
    (line,) = (
        line
        for block in BLOCKS
        for line in block[1].splitlines()
        if line.startswith("pip install mlflow==3.17.2 torch")
    )
    pins = {part.split("#")[0].strip() for part in (PROJECT / "requirements.txt").read_text().splitlines()}
    assert {word.split("==")[0] for word in line.split()[2:]} == set(SERVED_PACKAGES)
    assert set(line.split()[2:]) <= pins
