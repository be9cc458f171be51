"""`mlflow run` from any folder and any address: paths mean what they mean where the command was typed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from support import PROJECT

from pipeline.cli.launcher import go_to_the_caller
from pipeline.data import sources
from pipeline.errors import InputError

BINARIES = Path(sys.executable).parent


def mlflow_run(project: str, *arguments: str, code: int = 0, **environment: str) -> str:
    """Launch an entry point from the current folder, within this environment; return what was said."""
    parameters = [part for given in arguments[1:] for part in ("-P", given)]
    run = subprocess.run(
        [BINARIES / "mlflow", "run", project, "-e", arguments[0], *parameters, "--env-manager", "local"],
        env=os.environ | {"PATH": f"{BINARIES}:{os.environ['PATH']}", "PYTHONPATH": ""} | environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert run.returncode == code, f"{run.stdout}\n{run.stderr}"
    return run.stdout + run.stderr


@pytest.fixture
def photos(champions) -> Path:
    """The folder one is in, with a picture of a digit."""
    Image.fromarray(sources.digits(champions).test.images[0]).save(champions / "3.png")
    return champions


def test_paths_are_those_of_the_caller(photos):
    said = mlflow_run(str(PROJECT), "predict", "model_uri=models:/bars-mlp@champion", "input=3.png", "output=said.csv")
    assert f"written to {photos}/said.csv" in said
    assert (photos / "said.csv").read_text().startswith("file,")
    assert not (PROJECT / "said.csv").exists() and not (PROJECT / "mlruns").exists()


def test_a_project_fetched_from_elsewhere_works_here(environment, bars):
    shutil.copytree(bars, environment / "data" / "mine")
    repository = environment / "repository"
    shutil.copytree(PROJECT, repository, ignore=shutil.ignore_patterns(".*", "mlruns", "*.db", "__pycache__"))
    git = ["git", "-C", repository, "-c", "user.name=a", "-c", "user.email=a@b"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True)
    subprocess.run([*git, "archive", "--output", environment / "project.zip", "HEAD"], check=True)
    # Unpacked into a temporary folder, as a Git address is fetched into one.
    relative = {"MLFLOW_TRACKING_URI": "sqlite:///mine.db"}
    small = ["model=mlp", "epochs=1", "val_size=20", "limit=60"]
    said = mlflow_run("project.zip", "train", "dataset=data/mine", "root=kept", *small, **relative)
    assert "mlp on mine: " in said and f"--backend-store-uri sqlite:///{environment}/mine.db" in said
    assert (environment / "kept" / "journals").is_dir()
    assert {path.name for path in environment.glob("*.db")} == {"mine.db", "mlflow.db"}, "beside the tests' own"


@pytest.mark.parametrize("store", ["sqlite:///mlflow.db", "sqlite:///data/mlflow.db"])
def test_a_database_that_the_launcher_would_not_share_is_refused(environment, monkeypatch, store):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    with pytest.raises(InputError, match="give the whole path"):
        go_to_the_caller(None)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{environment}/mlflow.db")
    go_to_the_caller(None)
    assert Path.cwd() == environment


def test_the_launcher_may_be_a_program_of_any_name(environment):
    # As pip installs one: its process is called as its file is.
    tool = environment / "nightly report"
    ask = "from pipeline.cli.launcher import find_launcher; print(find_launcher().pid)"
    in_a_shell = ["sh", "-c", f'"{sys.executable}" -c "{ask}"; true']
    tool.write_text(
        f"#!{sys.executable}\nimport os, subprocess\n"
        f"print(os.getpid(), flush=True)\nsubprocess.run({in_a_shell!r}, check=True)\n"
    )
    tool.chmod(0o755)
    said = subprocess.run([tool], env=os.environ | {"MLFLOW_RUN_ID": "x"}, capture_output=True, text=True, check=True)
    own, found = said.stdout.split()
    assert own == found
