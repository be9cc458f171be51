"""What the tests work with: a store and a folder each, a small data set, a study made once for all."""

import os
import shutil
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

# Two tests at a time share the cores; more threads than cores would only wait for each other. Read by torch on import.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# As the command line sets it; read by mlflow on import.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

import mlflow
import pytest
from hypothesis import HealthCheck, settings
from support import PROJECT, STUDY, made_once, pipeline, write_idx_folder

from pipeline.cli import commands
from pipeline.files import ROOT_VARIABLE
from pipeline.tracking.client import connect, launcher_run, open_client

# No test holds a clock against the machine.
settings.register_profile(
    "any machine",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("any machine")

FAST = Path(__file__).parent / "unit"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that train, serve, launch or browse are slow; `pytest -m "not slow"` runs the others while one works."""
    for item in items:
        if not item.path.is_relative_to(FAST):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def bars(tmp_path_factory) -> Path:
    """A small data set in a folder of IDX files."""
    return write_idx_folder(tmp_path_factory.mktemp("data") / "bars")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory) -> Path:
    """A database without a run: making its tables takes MLflow longer than most tests."""
    made = tmp_path_factory.mktemp("store") / "mlflow.db"
    open_client(f"sqlite:///{made}")
    return made


@pytest.fixture
def environment(tmp_path, monkeypatch, empty_store) -> Path:
    """A folder with an empty tracking store and a cache of its own, for this process and those it starts."""
    mlflow.set_tracking_uri(None)
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(empty_store, tmp_path / "mlflow.db")
    with closing(sqlite3.connect(tmp_path / "mlflow.db")) as store, store:
        # As MLflow makes it: in the folder that it works in.
        store.execute("UPDATE experiments SET artifact_location = ?", (f"{tmp_path}/mlruns/0",))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv(ROOT_VARIABLE, str(tmp_path / "root"))
    monkeypatch.setenv("PYTHONPATH", str(PROJECT))
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    mlflow.set_tracking_uri(None)
    connect.cache_clear()
    launcher_run.cache_clear()


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, bars) -> str:
    """The store of `STUDY`, one training after the other."""

    def fill(folder: Path, store: dict[str, str]) -> None:
        pipeline(*STUDY, "--dataset", str(bars), "--workers", "1", env=store, cwd=folder)

    return made_once(tmp_path_factory, "undisturbed", fill)["MLFLOW_TRACKING_URI"]


@pytest.fixture(scope="session")
def champions_store(tmp_path_factory, bars) -> str:
    """The store of a study of every architecture, each promoted."""

    def fill(folder: Path, store: dict[str, str]) -> None:
        small = ["--limit", "60", "--val-size", "20", "--epochs", "1"]
        pipeline("main", "--dataset", str(bars), *small, env=store, cwd=folder)
        pipeline("promote", "--model", "all", env=store, cwd=folder)

    return made_once(tmp_path_factory, "champions", fill)["MLFLOW_TRACKING_URI"]


@pytest.fixture
def champions(environment, champions_store, monkeypatch) -> Path:
    """An empty folder to work in, connected to that store: models such as bars-cnn, version 1, champion."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", champions_store)
    return environment


@pytest.fixture
def command(monkeypatch, capsys):
    """Run `python -m pipeline` within this process, which saves its start; what it says is the same."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*arguments: str, code: int = 0) -> tuple[str, str]:
        monkeypatch.setattr(sys, "argv", ["python -m pipeline", *arguments])
        capsys.readouterr()
        ended = 0
        try:
            commands.main()
        except SystemExit as end:
            ended = end.code
        out, err = capsys.readouterr()
        assert ended == code, f"exit code {ended}, not {code}:\n{out}\n{err}"
        return out, err

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def mistake(command):
    """Run a command that must end with one sentence, and return it."""

    def run(*arguments: str, code: int) -> str:
        _, err = command(*arguments, code=code)
        assert err.startswith("Error: ") and err.count("\n") == 1, err
        return err

    return run


@pytest.fixture
def cluster(environment):
    """Begins clusters: a head, for whoever asks it, and nodes of one core each; the processes end with the test."""
    utils = pytest.importorskip("ray.cluster_utils", reason="Ray is not installed")
    begun = []

    def begin(nodes: int, head: dict[str, int] | None = None, **resources):
        # Another name of loopback: Ray replaces the usual one by an address that others reach.
        here = {"node_ip_address": "127.0.0.2", "include_dashboard": False}
        made = utils.Cluster(initialize_head=True, head_node_args={**here, "num_cpus": 0, **(head or {})})
        begun.append(made)
        for _ in range(nodes):
            made.add_node(**here, **{"num_cpus": 1, **resources})
        return made

    yield begin
    for made in begun:
        made.shutdown()
