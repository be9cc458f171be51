"""A terminal that is closed and a launcher that is killed end the training they began, in order."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import mlflow
import psutil
import pytest
from support import PROJECT, only_run

LONG = {"model": "mlp", "epochs": "5000", "val_size": "20"}


def wait_for_epoch(process: subprocess.Popen) -> None:
    """Wait until the training that a process runs has logged an epoch; what it says goes to the file `log`."""
    while process.poll() is None:
        runs = mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'training'")
        if runs and "val/loss" in runs[0].data.metrics:
            return
        time.sleep(0.3)
    raise AssertionError(Path("log").read_text())


def options(bars: Path) -> list[str]:
    """A training that takes longer than any test."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in {**LONG, "dataset": str(bars)}.items()]


def started(*command: str | Path, **environment: str) -> subprocess.Popen:
    """Start a command that says what it does into the file `log`."""
    # MLflow's launcher and this process, which asks for what is logged, must not make the tables at the same time.
    mlflow.MlflowClient().search_runs(["0"])
    with Path("log").open("w") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | environment)


def test_a_closed_terminal_ends_a_training_in_order(environment, bars):
    process = started(sys.executable, "-m", "pipeline", "train", *options(bars))
    wait_for_epoch(process)
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 128 + signal.SIGHUP and "--resume" in Path("log").read_text()
    assert only_run().info.status == "KILLED"


def test_nohup_keeps_a_training_alive(environment, bars):
    process = started("nohup", sys.executable, "-m", "pipeline", "train", *options(bars))
    wait_for_epoch(process)
    process.send_signal(signal.SIGHUP)
    time.sleep(2)
    assert process.poll() is None
    process.terminate()
    assert process.wait() == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_ends_with_its_launcher(environment, bars, number):
    given = [word for name, value in {**LONG, "dataset": str(bars)}.items() for word in ("-P", f"{name}={value}")]
    programs = Path(sys.executable).parent
    run = (programs / "mlflow", "run", PROJECT, "-e", "train", *given, "--env-manager", "local")
    launcher = started(*run, PATH=f"{programs}:{os.environ['PATH']}")
    below: list[psutil.Process] = []
    try:
        wait_for_epoch(launcher)
        below = psutil.Process(launcher.pid).children(recursive=True)
        launcher.send_signal(number)
        launcher.wait()
        # How long this may take, the test's own limit says.
        psutil.wait_procs(below)
        assert only_run().info.status == "KILLED"
    finally:
        launcher.kill()
        for process in below:
            if process.is_running():
                process.kill()
