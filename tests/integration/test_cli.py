"""What a user types and reads: help, mistakes, exit codes."""

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request

import click
import mlflow
import numpy as np
import pytest
import yaml
from support import PROJECT, idx_bytes, only_run, write_idx_folder

from pipeline.cli import commands
from pipeline.tracking.client import connect

HEAVY = {"mlflow", "torch", "torchvision", "pandas", "numpy", "scipy", "sklearn", "matplotlib", "rich", "fastapi"}


def imported_by(*arguments: str, first: str = "") -> set[str]:
    """The modules that a command has imported when it ends, and before which something else is run."""
    script = (
        f"import sys; {first}\n"
        "from pipeline.cli.commands import main\n"
        f"sys.argv = ['pipeline', *{arguments}]\n"
        "try:\n    main()\nfinally:\n    print('IMPORTED', *sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, capture_output=True, text=True).stdout
    return set(out.rsplit("IMPORTED", 1)[1].split())


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["compare", "--help"]])
def test_help_imports_nothing_heavy(arguments):
    assert not HEAVY & imported_by(*arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--model", "mobilnet"],
        ["train", "--dataset", "mnits"],
        ["train", "--weights", "nowhere.safetensors"],
        ["train", "--model-args", "kernel"],
        ["train", "--model-args", "kernelsize=3"],
        ["train", "--task-args", "smoothing=0.1"],
        ["train", "--weights", "imagenet"],
        ["main", "--models", "cnn,resnet"],
        ["tune", "--models", "cnn,resnet"],
        ["main", "--dataset", "mnits"],
        ["models", "--model", "resnet"],
        ["prepare", "--dataset", "mnits"],
        ["evaluate", "--model-uri", "models:/a/1", "--dataset", "mnits"],
        ["compare", "--metric", "acuracy"],
        ["report", "--output", "report.pdf"],
        ["predict", "--model-uri", "models:/a/1", "--input", "3.png", "--output", "said.txt"],
    ],
)
def test_a_wrong_name_is_answered_before_anything_heavy_is_imported(arguments):
    assert not (HEAVY - {"numpy"}) & imported_by(*arguments)


@pytest.mark.parametrize("arguments", [["train", "--model", "alexnet"], ["main"], ["main", "--dataset", "mnist"]])
def test_what_will_be_trained_is_said_before_anything_heavy_is_imported(arguments):
    assert not (HEAVY - {"numpy"}) & imported_by(*arguments, first="import click; click.echo = sys.exit")


def test_a_training_begins_before_what_draws_is_imported(environment, bars):
    options = ["--dataset", str(bars), "--model", "mlp", "--epochs", "1"]
    first = "from pipeline.training.engine import loop; loop.create_batches = sys.exit"
    found = imported_by("train", *options, first=first)
    assert "torch" in found and not {"matplotlib", "optuna"} & found


@pytest.fixture
def without_network(environment, monkeypatch):
    """Let every request end at a port that nobody listens on."""
    monkeypatch.setenv("TORCH_HOME", str(environment / "torch"))
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # urllib remembers the proxies of its first call in a process.
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.mark.parametrize(
    ("arguments", "size", "instead"),
    [
        (
            "train --model alexnet --freeze features --val-size 5000",
            "(233 MB)",
            "train --model alexnet --dataset digits --weights none",
        ),
        ("train --dataset=kmnist --model mlp --lr 0.01", "(21 MB)", "train --model mlp --lr 0.01 --dataset digits"),
        ("train --dataset digits --model alexnet", "(233 MB)", "train --dataset digits --model alexnet --weights none"),
        ("main --dataset mnist --models mlp", "(12 MB)", "main --models mlp --dataset digits"),
        (
            "main --models mlp,alexnet --weights auto --epochs 1",
            "(233 MB)",
            "main --models mlp,alexnet --epochs 1 --weights none",
        ),
        ("prepare --dataset emnist-digits", "(562 MB)", "prepare --dataset digits"),
    ],
)
def test_without_network_the_command_that_works_is_said(without_network, command, arguments, size, instead):
    out, err = command(*arguments.split(), code=2)
    assert "Downloading " in out and size in out and not connect().search_runs(["0"])
    assert err.endswith(f"Without network this works now: python -m pipeline {instead}\n")


def test_arguments_are_checked_before_anything_is_downloaded(without_network, mistake):
    assert "did you mean 'pool'?" in mistake("train", "--model", "alexnet", "--model-args", "pol=3", code=2)
    assert "30 is no multiple of patch_size 7" in mistake(
        "main", "--dataset", "mnist", "--models", "vit", "--image-size", "30", code=2
    )


def test_models_are_listed_with_arguments_recipe_and_weights(command):
    out, _ = command("models", "--model", "alexnet,cnn")
    alexnet, cnn = out.split("\ncnn\n")
    assert "pool=6, hidden=4096, dropout=0.5" in alexnet and "IMAGENET1K_V1 (233 MB)" in alexnet
    assert "kernel_size=3" in cnn and "epochs=5" in cnn and "published    no weights" in cnn


def test_without_a_study_the_trainings_of_the_experiment_are_compared(environment, command, bars):
    command("train", "--model", "mlp", "--dataset", str(bars), "--epochs", "1", "--val-size", "20")
    out, _ = command("compare")
    assert "There is no study in the experiment Default: these are all its trainings." in out and "\nmlp " in out


@pytest.mark.parametrize("name", commands.commands.commands)
def test_every_option_has_help_and_shows_its_default(name):
    for option in commands.commands.commands[name].params:
        assert isinstance(option, click.Option) and option.help, option.name


def test_mlproject_matches_the_command_line():
    project = yaml.safe_load((PROJECT / "MLproject").read_text())
    assert set(project["entry_points"]) == set(commands.commands.commands)
    for entry, specification in project["entry_points"].items():
        words = shlex.split(specification["command"])
        assert words[:4] == ["python", "-m", "pipeline", entry]
        options = {option.opts[0].replace("-", "_"): option for option in commands.commands.commands[entry].params}
        given = {name.replace("-", "_"): value for name, value in zip(words[4::2], words[5::2], strict=True)}
        assert given == {f"__{name}": f"{{{name}}}" for name in specification.get("parameters", {})}
        for name, parameter in specification.get("parameters", {}).items():
            option = options[f"__{name}"]
            assert option.required if parameter == "string" else str(option.default) == str(parameter["default"]), name


def test_versions_are_pinned_and_the_launcher_has_the_same_mlflow():
    requirements = [
        line.split("#")[0].strip()
        for name in ("requirements.txt", "requirements-dev.txt")
        for line in (PROJECT / name).read_text().splitlines()
    ]
    packages = [line for line in requirements if line and not line.startswith("-r")]
    assert all(re.fullmatch(r"[\w-]+(\[\w+\])?==[\w.]+", line) for line in packages)
    pin = next(line for line in packages if line.startswith("mlflow=="))
    assert f"pip install {pin} uv" in (PROJECT / "README.md").read_text()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train", "--epoch", "3"], "Did you mean '--epochs'?"),
        (["train", "--model", "mobilnet"], "did you mean 'mobilenet_v2'?"),
        (["train", "--model", "CNN"], "did you mean 'cnn'?"),
        (["evaluate", "--model-uri", "digits-cnn", "--dataset", "digits"], "'digits-cnn' names no registered model"),
        (["evaluate", "--model-uri", "models:a@b", "--dataset", "digits"], "'models:a@b' names no registered model"),
        (["train", "--dataset", "mnits"], "did you mean 'mnist'?"),
        (["train", "--batch_size", "0"], "0 is not in the range"),
        (["train", "--lr", "fast"], "'fast' is no number"),
        (["train", "--dataset", "digits", "--model-args", "kernel=3"], "did you mean 'kernel_size'?"),
        (["train", "--dataset", "digits", "--model", "vit", "--image-size", "30"], "30 is no multiple of patch_size 7"),
        (["train", "--dataset", "digits", "--weights", "nowhere.safetensors"], "There is no weights file"),
        (["main", "--models", "cnn,resnet"], "There is no architecture 'resnet'"),
        (["compare", "--output", "table.xls"], "use one of .csv, .md, .json, .parquet"),
        (["compare"], "There is no finished training to compare"),
        (["plan"], "There is no finished training to compare"),
        (["compare", "--study", "abc"], "There is no run 'abc'"),
        (["compare", "--experiment", "Default", "--filter", "nonsense"], "cannot be used"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_2(environment, mistake, arguments, says):
    assert says in mistake(*arguments, code=2)


def test_a_broken_file_leaves_nothing_half_written(environment, mistake):
    folder = write_idx_folder(environment / "set")
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"<html>")
    assert "is a web page" in mistake("prepare", "--dataset", str(folder), code=2)
    assert not (environment / "root").exists()
    assert mlflow.MlflowClient().search_runs(["0"]) == []


def test_prepare_describes_and_records(environment, command):
    folder = write_idx_folder(environment / "set", test=41)
    images = np.random.default_rng(1).integers(0, 255, (120, 28, 28))
    (folder / "train-images-idx3-ubyte.gz").write_bytes(idx_bytes(images))
    (folder / "t10k-images-idx3-ubyte.gz").write_bytes(idx_bytes(images[:41]))
    out, _ = command("prepare", "--dataset", str(folder))
    assert "set train: 120 images of 28 x 28 px, 12 to 12 a class" in out
    assert "41 test images also occur in training" in out
    run = only_run("preparation")
    manifest = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/manifest.json"))
    (kept,) = (environment / "root" / "manifests").iterdir()
    assert json.loads(kept.read_text()) == manifest
    assert mlflow.artifacts.load_image(f"{run.info.artifact_uri}/samples.png").size[0] > 500
    used = {entry.dataset.name: entry for entry in run.inputs.dataset_inputs}
    assert manifest["train"]["sha256"].startswith(used["set-training"].dataset.digest)
    assert {tag.key: tag.value for tag in used["set-test"].tags}["sha256"] == manifest["test"]["sha256"]


def test_a_server_that_does_not_answer_is_one_sentence(environment, mistake, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    # A training goes on without it: tests/end_to_end/test_weather.py.
    err = mistake("compare", code=1)
    assert "The tracking server at http://127.0.0.1:9 does not answer" in err


def test_importing_changes_no_environment():
    script = "import os; before = dict(os.environ); import pipeline.tracking.client; print(before == dict(os.environ))"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "GIT_PYTHON"))}
    out = subprocess.run([sys.executable, "-c", script], cwd=PROJECT, env=clean, check=True, capture_output=True)
    assert out.stdout.strip() == b"True"
