"""The server of docs/server.md, started as the page says, keeps what many trainings write at once."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests
from moto.server import ThreadedMotoServer
from support import PROJECT, Postgres, free_port, pipeline, pipeline_process, postgres, wait_for

from pipeline.data import folders

PAGE = (PROJECT / "docs" / "server.md").read_text()
SMALL = ("--model", "mlp", "--val-size", "20")
# Two for each node; benchmarks/RESULTS.md tells of 32.
TRAININGS = int(os.environ.get("TRAININGS", "8"))


@dataclass
class Stores:
    """The stores and a folder to run the page's commands in, at the ports where they really listen."""

    folder: Path
    database: Postgres
    port: int
    page: str

    @classmethod
    def of(cls, folder: Path, database: Postgres, bucket_port: int) -> "Stores":
        port = free_port()
        page = PAGE.replace("5432", str(database.port)).replace("9000", str(bucket_port)).replace("5000", str(port))
        settings, accounts = re.findall(r"```ini\n(.*?)```", page, flags=re.DOTALL)
        (folder / "server.env").write_text(settings)
        (folder / "auth.ini").write_text(accounts)
        return cls(folder, database, port, page)

    @property
    def commands(self) -> list[str]:
        blocks = re.findall(r"```bash\n(.*?)```", self.page, flags=re.DOTALL)
        return "".join(blocks).splitlines()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self, command: str, **options) -> subprocess.Popen:
        """Start a command of the page, with the settings that it begins with."""
        administrator = {"PGHOST": "127.0.0.1", "PGPORT": str(self.database.port), "PGUSER": "postgres"}
        path = f"{self.database.programs}:{Path(sys.executable).parent}:{os.environ['PATH']}"
        secrets = {"PGPASSWORD": "of this test", "MLFLOW_DISABLE_TELEMETRY": "true"}
        bare = {name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "PYTHONPATH")}
        return subprocess.Popen(
            ["bash", "-euc", f"{self.commands[1]}\nexec {command}"],
            cwd=self.folder,
            env=bare | administrator | secrets | {"PATH": path},
            **options,
        )

    def run(self, command: str) -> None:
        assert self.start(command).wait(timeout=120) == 0, command

    @contextmanager
    def serving(self, command: str) -> Iterator[None]:
        with (self.folder / "server.log").open("ab") as log:
            process = self.start(command, stdout=log, stderr=log)
        try:
            wait_for(f"{self.uri}/health", process)
            yield
        finally:
            process.terminate()
            process.wait(timeout=30)


@pytest.fixture
def stores(environment, monkeypatch):
    """PostgreSQL and an S3 store, and an account of the server that will run on them."""
    bucket = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    bucket.start()
    try:
        with postgres("of this test") as database:
            folder = environment / "server"
            folder.mkdir()
            stores = Stores.of(folder, database, bucket.get_host_and_port()[1])
            monkeypatch.setenv("MLFLOW_TRACKING_URI", stores.uri)
            monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "student")
            monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "student-password")
            yield stores
    finally:
        bucket.stop()


@contextmanager
def training(*options: str) -> Iterator[subprocess.Popen]:
    """A training that does not outlive its test."""
    process = pipeline_process("train", *options)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def lost(bars: Path, *, seeds: int, epochs: int) -> list[str]:
    """What is missing of these trainings on the server; nothing is loaded twice."""
    client = mlflow.MlflowClient()
    runs = client.search_runs(["0"], "tags.kind = 'training'")
    missing = [] if len(runs) == seeds else [f"{seeds - len(runs)} runs"]
    registered = client.search_model_versions("name = 'bars-mlp'")
    versions = {version.run_id: version for version in registered}
    missing += [] if len(registered) == len(versions) else [f"{len(registered)} versions of {len(versions)} runs"]
    images = folders.read_folder(bars, name="bars").test.images
    for run in runs:
        name, run_id = run.info.run_name, run.info.run_id
        if run.info.status != "FINISHED":
            missing.append(f"{name}: {run.info.status}")
        for metric in ("train/loss", "val/loss", "val/accuracy", "val/f1", "train/lr", "time/epoch_s"):
            steps = [point.step for point in client.get_metric_history(run_id, metric)]
            if steps != list(range(1, epochs + 1)):
                missing.append(f"{name}: {metric} at {steps}")
        missing += [
            f"{name}: {metric}"
            for metric in ("test/accuracy", "test/loss", "time/total_s")
            if metric not in run.data.metrics
        ]
        files = {artifact.path for artifact in client.list_artifacts(run_id)}
        expected = {"confusion_matrix.png", "learning_curves.png", "errors.png", "predictions.csv", "best_epoch.json"}
        missing += [f"{name}: {file}" for file in expected - files]
        if run_id not in versions:
            missing.append(f"{name}: its registered model")
            continue
        answers = mlflow.pyfunc.load_model(f"models:/bars-mlp/{versions[run_id].version}").predict(images)
        table = mlflow.artifacts.load_text(f"{run.info.artifact_uri}/predictions.csv").splitlines()
        logged = np.genfromtxt(table, delimiter=",", names=True)
        probabilities = np.stack([logged[f"probability_{digit}"] for digit in range(10)], axis=1)
        if not np.allclose(answers, probabilities, atol=1e-5):
            missing.append(f"{name}: its registered model answers otherwise")
    return missing


@pytest.mark.timeout(600)
def test_what_four_nodes_train_at_once_is_there_once_and_comes_back_from_a_backup(stores, bars, cluster):
    install, _, role, bucket, server, account, dump, save, restore, put_back = stores.commands
    stores.run(install.replace("pip install", f"uv pip install --offline --dry-run --quiet --python {sys.executable}"))
    stores.run(role)
    stores.run(bucket)
    with stores.serving(server):
        stores.run(account)
        study = ("main", "--models", "mlp", "--seeds", str(TRAININGS), "--dataset", str(bars))
        quick = ("--val-size", "20", "--epochs", "3")
        out, _ = pipeline(*study, *quick, "--engine", "ray", "--address", cluster(4).address)
        assert f"{TRAININGS} trainings" in out
        assert lost(bars, seeds=TRAININGS, epochs=3) == []
        stores.run(dump)
        stores.run(save)
    drop = '--command "DROP DATABASE mlflow" --command "DROP ROLE mlflow"'
    stores.run(f"psql --quiet --dbname postgres {drop}")
    stores.run(bucket.replace(" mb ", " rb --force "))
    for command in (role, bucket, restore, put_back):
        stores.run(command)
    with stores.serving(server):
        assert lost(bars, seeds=TRAININGS, epochs=3) == []


def test_a_training_outlives_a_restart_of_the_database(stores, bars):
    _, _, role, bucket, server, account, *_ = stores.commands
    stores.run(role)
    stores.run(bucket)
    with stores.serving(server):
        stores.run(account)
        with training("--dataset", str(bars), *SMALL, "--epochs", "60", "--batch-size", "4") as process:
            for line in process.stdout:
                if "epoch  9/60" in line:
                    break
            stores.database.stop()
            stores.database.start()
            out, err = process.communicate(timeout=240)
        assert "epoch 12/60" in out, "it was in the middle of the training"
        assert process.returncode == 0, err
        assert lost(bars, seeds=1, epochs=60) == []


def test_a_name_that_is_not_listed_and_a_stranger_are_refused(stores):
    _, _, role, bucket, server, *_ = stores.commands
    stores.run(role)
    stores.run(bucket)
    search = f"{stores.uri}/api/2.0/mlflow/experiments/search"
    admin = ("admin", "admin-password")
    with stores.serving(server):

        def status(host: str = "mlflow.example.org", origin: str = "https://mlflow.example.org", auth=admin) -> int:
            headers = {"Host": host, "Origin": origin}
            return requests.post(search, json={"max_results": 1}, headers=headers, auth=auth).status_code

        assert status() == 200
        assert status(auth=None) == 401 and status(auth=("admin", "guessed")) == 401
        assert status(host="elsewhere.example.org") == 403 and status(origin="https://elsewhere.example.org") == 403
