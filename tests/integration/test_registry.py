"""Registered models from end to end: behind a password, as a start for other trainings."""

import mlflow
import numpy as np
import pytest
import requests
from safetensors.torch import load_file
from support import ask, idx_bytes, serving, tracking_server, write_idx_folder

from pipeline.data import folders
from pipeline.registry import loading, versions

# Passwords are checked once: they are meant to take long.
AUTHENTICATION = """
[mlflow]
default_permission = READ
database_uri = sqlite:///{folder}/users.db
admin_username = teacher
admin_password = a long password
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
grant_default_workspace_access = false
auth_cache_ttl_seconds = 600
"""
SMALL = ("--epochs", "2", "--val-size", "20")


def weights_of(uri: str, folder) -> dict:
    return load_file(loading.download_weights(uri, folder))


def test_everything_works_behind_a_password(environment, command, mistake, bars, monkeypatch):
    settings = environment / "auth.ini"
    settings.write_text(AUTHENTICATION.format(folder=environment))
    secrets = {"MLFLOW_AUTH_CONFIG_PATH": str(settings), "MLFLOW_FLASK_SERVER_SECRET_KEY": "of this test"}
    with tracking_server(environment, "--app-name", "basic-auth", **secrets) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        train = ["train", "--model", "mlp", "--dataset", str(bars), *SMALL]
        says = mistake(*train, code=1)
        assert f"The tracking server at {uri} asks for a name and a password: set MLFLOW_TRACKING_USERNAME" in says
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "teacher")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a long password")
        command(*train)
        command("promote", "--model", "bars-mlp")
        champion = "models:/bars-mlp@champion"
        np.save(environment / "images.npy", folders.read_folder(bars, name="bars").test.images)
        command("predict", "--model-uri", champion, "--input", "images.npy", "--output", "out.csv")
        command("evaluate", "--model-uri", champion, "--dataset", str(bars))
        command("export", "--model-uri", champion, "--format", "torchscript", "--output", "model.pt")
        assert [version.uri for version in versions.champions()] == ["models:/bars-mlp/1"]
        assert "no previous champion" in mistake("promote", "--model", "bars-mlp", "--rollback", code=3)
        out, _ = command(*train, "--weights", champion)
        assert "Starting from models:/bars-mlp/1" in out
        with serving(champion) as port:
            assert len(ask(port, np.zeros((2, 28, 28), int).tolist())["predictions"]) == 2

        # Somebody who may read, and nothing else.
        account = {"username": "student", "password": "another long password"}
        made = requests.post(f"{uri}/api/2.0/mlflow/users/create", json=account, auth=("teacher", "a long password"))
        made.raise_for_status()
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", account["username"])
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", account["password"])
        command("predict", "--model-uri", champion, "--input", "images.npy", "--output", "out.csv")
        assert "Not begun: " in mistake(*train, code=1)


@pytest.fixture
def origin(environment, command, bars) -> str:
    """A champion to start from, trained well."""
    command("train", "--model", "cnn", "--dataset", str(bars), "--epochs", "8", "--val-size", "20")
    command("promote", "--model", "bars-cnn")
    return "models:/bars-cnn@champion"


def test_a_training_starts_from_a_registered_model(environment, origin, command, bars):
    """Versions of bars-cnn: 1 the origin, 2 fine-tuned from it, 3 with its features frozen."""
    train = ["train", "--model", "cnn", "--dataset", str(bars), "--epochs", "1", "--val-size", "20"]
    out, _ = command(*train, "--weights", origin, "--lr", "1e-5")
    first = mlflow.MlflowClient().get_model_version("bars-cnn", "1")
    lineage = f"models:/bars-cnn/1 of run {first.run_id}"
    assert f"Starting from {lineage}." in out
    second = mlflow.MlflowClient().get_model_version("bars-cnn", "2")
    run = mlflow.MlflowClient().get_run(second.run_id)
    # What was used, whatever the alias means later.
    assert run.data.tags["lineage"] == lineage and run.data.params["weights"] == "models:/bars-cnn/1"
    assert lineage in second.description
    # A learning rate that changes nothing: it begins where the origin ended.
    trained = mlflow.MlflowClient().get_run(first.run_id).data.metrics["test/accuracy"]
    assert run.data.metrics["test/accuracy"] == pytest.approx(trained, abs=0.1)

    command(*train, "--weights", origin, "--freeze", "features")
    old, new = (weights_of(f"models:/bars-cnn/{number}", environment / str(number)) for number in (1, 3))
    assert all((new[name] == old[name]).all() for name in old if not name.startswith("head."))
    assert any((new[name] != old[name]).any() for name in old if name.startswith("head."))


def test_a_head_for_other_classes_is_replaced(environment, origin, command):
    other = write_idx_folder(environment / "two")
    for part, count in (("train", 120), ("t10k", 20)):
        (other / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.arange(count) % 2))
    options = ["--epochs", "1", "--val-size", "20", "--weights", origin, "--lr", "1e-9"]
    out, _ = command("train", "--model", "cnn", "--dataset", str(other), *options)
    assert "with a fresh head for other classes" in out
    old, new = (weights_of(f"models:/{name}-cnn/1", environment / name) for name in ("bars", "two"))
    assert all(np.allclose(new[name], old[name], atol=1e-4) for name in old if name.endswith("features.0.weight"))
    assert not any(np.array_equal(new[name], old[name]) for name in old if name == "head.0.weight")


def test_of_a_model_to_start_from_no_code_runs(environment, origin, command, bars):
    (code,) = environment.rglob("serve.py")
    code.write_text("raise SystemExit('it ran')")
    command("train", "--model", "cnn", "--dataset", str(bars), "--epochs", "1", "--weights", origin)


def test_weights_of_another_architecture_are_refused(origin, mistake, bars):
    says = mistake("train", "--model", "mlp", "--dataset", str(bars), "--weights", origin, code=2)
    assert "holds the weights of cnn, not of mlp" in says
    says = mistake("train", "--model", "mlp", "--dataset", str(bars), "--weights", "models:/bars-mlp@best", code=2)
    assert "There is no registered model 'bars-mlp'" in says and "bars-cnn" in says
