"""`mlflow run`, the way the README says it, in an environment that MLflow builds from conda.yaml."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from support import PROJECT, ask, serving

from pipeline.data import sources


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project's tracked files, as a clone would be."""
    folder = tmp_path_factory.mktemp("project") / "clone"
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=PROJECT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, target)
    yield folder
    mlflow.set_tracking_uri(None)


def mlflow_run(project: Path, *arguments: str, code: int = 0, env_manager: str = "uv") -> str:
    """Run an entry point with MLflow's launcher; its own environment is kept with the project's copy."""
    binaries = Path(sys.executable).parent
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_") and name != "PYTHONPATH"
    }
    environment |= {
        "PATH": f"{binaries}:{os.environ['PATH']}",
        "MLFLOW_ENV_ROOT": str(project.parent / "environments"),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DIGIT_COMPARISON_ROOT": str(project.parent / "root"),
    }
    run = subprocess.run(
        [binaries / "mlflow", "run", ".", *arguments, "--env-manager", env_manager],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert run.returncode == code, f"{run.stdout}\n{run.stderr}"
    return run.stdout + run.stderr


def serves_the_same_labels(project: Path, uri: str, labels: list[str]) -> None:
    """Ask MLflow's server, in an environment made for the model and a folder without this project, over HTTP."""
    elsewhere = project.parent / "elsewhere"
    elsewhere.mkdir()
    environment = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{project}/mlflow.db",
        "MLFLOW_ENV_ROOT": str(project.parent / "environments"),
        "PYTHONPATH": "",
    }
    images = sources.digits(elsewhere).test.images[:100]
    with serving(uri, env_manager="uv", folder=elsewhere, **environment) as port:
        answers = ask(port, images.tolist())["predictions"]
    assert [str(shares.index(max(shares))) for shares in answers] == labels


@pytest.mark.timeout(600)
def test_main_and_train(project):
    small = ["-P", "models=mlp,cnn", "-P", "epochs=2", "-P", "limit=300"]
    out = mlflow_run(project, *small)
    assert "\nmlp " in out and "\ncnn " in out and "mlflow ui --backend-store-uri sqlite:///" in out

    client = mlflow.MlflowClient(f"sqlite:///{project}/mlflow.db")
    (study,) = client.search_runs(["0"], "tags.kind = 'study'")
    assert study.data.params["dataset"] == "digits" and study.data.tags["mlflow.project.entryPoint"] == "main"
    children = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{study.info.run_id}'")
    assert sorted(run.info.run_name for run in children) == ["cnn seed 0", "mlp seed 0"]
    assert {run.info.status for run in [study, *children]} == {"FINISHED"}

    out = mlflow_run(project, *small, env_manager="local")
    assert out.count("finished before") == 2
    (again,) = client.search_runs(["0"], "tags.kind = 'launch'")
    assert again.data.tags["mlflow.parentRunId"] == study.info.run_id and again.info.status == "FINISHED"

    # The launcher logs parameters in the user's words before the training does in its own.
    words = [
        "-P",
        "model=mlp",
        "-P",
        "dataset=digits",
        "-P",
        "epochs=02",
        "-P",
        "batch_size=64",
        "-P",
        "precision=auto",
    ]
    out = mlflow_run(project, "-e", "train", *words, env_manager="local")
    run_id = out.split("in run with ID '")[1].split("'")[0]
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.metrics["test/accuracy"] > 0.5
    assert run.data.params["epochs"] == "02" and run.data.params["epochs_used"] == "2"
    assert run.data.params["precision_used"] == "fp32" and run.data.params["batch_size"] == "64"

    out = mlflow_run(project, "-e", "compare", "-P", f"output={project.parent}/table.md", env_manager="local")
    assert "| mlp" in (project.parent / "table.md").read_text()

    out = mlflow_run(project, "-e", "promote", "-P", "model=cnn", env_manager="local")
    assert "Promoted digits-cnn version 1" in out
    (trained,) = (run for run in children if run.info.run_name == "cnn seed 0")
    predictions = pd.read_csv(trained.info.artifact_uri.removeprefix("file://") + "/predictions.csv", dtype=str)
    serves_the_same_labels(project, "models:/digits-cnn@champion", predictions["prediction"][:100].tolist())

    out = mlflow_run(project, "-e", "train", "-P", "model=alexnt", env_manager="local", code=1)
    assert "Error: There is no architecture 'alexnt': did you mean 'alexnet'?" in out
    assert "its launch failed" in mlflow_run(project, "-e", "clean", env_manager="local")
    shutil.rmtree(project.parent / "environments")
