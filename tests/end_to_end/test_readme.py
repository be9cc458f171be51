"""README and docs are true: their commands run, their examples work, every parameter is explained."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from itertools import pairwise

import pytest
import torch
import torchvision
from PIL import Image
from support import PROJECT, pipeline, serving

import models
from pipeline.cli import commands
from pipeline.data import sources

PAGES = {path: path.read_text() for path in (PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")))}
TEXT = "\n".join(PAGES.values())
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", TEXT, flags=re.DOTALL)
COMMANDS = [line for language, block in BLOCKS if language == "sh" for line in block.strip().splitlines()]
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


@pytest.mark.parametrize("launch", [launch for launch in LAUNCHES if "playground" not in launch])
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
    small = ["--limit", "60", "--val-size", "20", "--epochs", "1"]
    if entry in ("compare", "report", "promote"):
        command("main", "--dataset", str(bars), "--models", "mlp", *small)
    for dataset, model in re.findall(r"models:/(\w+)-(\w+)@champion", launch):
        command("train", "--model", model, "--dataset", dataset, "--weights", "none", *small)
        command("promote", "--model", f"{dataset}-{model}")
    Image.fromarray(sources.digits(environment).test.images[0]).save(environment / "digit.png")
    if entry in ("main", "train"):
        arguments += [*(["--models", "mlp"] if entry == "main" else []), *small]
    command(entry, *arguments)


def test_a_champion_is_served_and_loaded_as_shown(champions, champions_store):
    Image.fromarray(sources.digits(champions).test.images[0]).save(champions / "digit.png")
    uri, shown_port = re.search(r"-m (\S+) .* --port (\d+)", SERVE).groups()
    assert f"127.0.0.1:{shown_port}/invocations" in CURL
    with serving(uri.replace("mnist", "bars")) as port:
        line = CURL.replace(shown_port, str(port))
        answer = subprocess.run(["bash", "-c", line], cwd=champions, check=True, capture_output=True, text=True)
    (shares,) = json.loads(answer.stdout)["predictions"]

    (code,) = (block for language, block in BLOCKS if language == "python" and "unwrap_python_model" in block)
    digit = "import numpy, torch\nfrom PIL import Image\nimages = numpy.array(Image.open('digit.png'))[None]\n"
    check = "print(probabilities[0].tolist(), network(torch.from_numpy(images)).softmax(1)[0].tolist(), sep='\\n')"
    script = digit + code.replace("mnist", "bars") + check
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
