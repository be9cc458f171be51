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
from support import PROJECT, only_run, pipeline_process

LONG = {"model": "mlp", "epochs": "5000", "val_size": "20"}


def run_status(seconds: float = 60) -> str:
    """The status of the only training, waited for while it runs."""
    deadline = time.monotonic() + seconds
    while (status := only_run().info.status) == "RUNNING" and time.monotonic() < deadline:
        time.sleep(0.3)
    return status


def wait_for_epoch(seconds: float = 120) -> None:
    """Wait until the training has logged an epoch."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        runs = mlflow.MlflowClient().search_runs(["0"], "tags.kind = 'training'")
        if runs and "val/loss" in runs[0].data.metrics:
            return
        time.sleep(0.3)
    raise AssertionError("nothing was trained")


def options(bars: Path) -> list[str]:
    """A training that takes longer than any test."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in {**LONG, "dataset": str(bars)}.items()]


def test_a_closed_terminal_ends_a_training_in_order(environment, bars):
    process = pipeline_process("train", *options(bars))
    wait_for_epoch()
    process.send_signal(signal.SIGHUP)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGHUP and "--resume" in err
    assert only_run().info.status == "KILLED"


def test_nohup_keeps_a_training_alive(environment, bars):
    process = subprocess.Popen(
        ["nohup", sys.executable, "-m", "pipeline", "train", *options(bars)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_for_epoch()
    process.send_signal(signal.SIGHUP)
    time.sleep(2)
    assert process.poll() is None
    process.terminate()
    assert process.wait(timeout=60) == 128 + signal.SIGTERM


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_training_ends_with_its_launcher(environment, bars, number):
    given = [word for name, value in {**LONG, "dataset": str(bars)}.items() for word in ("-P", f"{name}={value}")]
    launcher = subprocess.Popen(
        [Path(sys.executable).parent / "mlflow", "run", PROJECT, "-e", "train", *given, "--env-manager", "local"],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    below: list[psutil.Process] = []
    try:
        wait_for_epoch()
        below = psutil.Process(launcher.pid).children(recursive=True)
        launcher.send_signal(number)
        launcher.wait(timeout=60)
        _, left = psutil.wait_procs(below, timeout=60)
        assert not left
        assert run_status() == "KILLED"
    finally:
        launcher.kill()
        for process in below:
            if process.is_running():
                process.kill()
