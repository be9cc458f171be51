"""A command that `mlflow run` started: it works in the caller's folder, and ends when the launcher is gone."""

import os
import re
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from psutil import Process

PROJECT = Path(__file__).resolve().parents[2]
# What MLflow's launcher runs a command in.
SHELLS = ("bash", "sh", "dash", "cmd.exe")
# An SQLite file below whatever folder a process works in.
RELATIVE_STORE = re.compile(r"sqlite(\+\w+)?:///(?!/|[A-Za-z]:|:memory:|$)")


def follow_launcher() -> None:
    """Join the launcher, where there is one.

    Raises:
        InputError: this command would use another database than the launcher.
    """
    if "MLFLOW_RUN_ID" not in os.environ:
        return
    launcher = find_launcher()
    if Path.cwd() == PROJECT:
        go_to_the_caller(launcher)
    if launcher:
        threading.Thread(target=end_with, args=(launcher,), daemon=True).start()


def find_launcher() -> "Process | None":
    """The process that runs `mlflow run`; None where something else started this one with a run's id."""
    import psutil

    try:
        # A shell stands between.
        nearest = next((above for above in psutil.Process().parents() if above.name() not in SHELLS), None)
        return nearest if nearest and nearest.name().lower().startswith(("mlflow", "python")) else None
    except psutil.Error:
        return None


def go_to_the_caller(launcher: "Process | None") -> None:
    """Work where `mlflow run` was typed: MLflow starts a project in its own folder, one from Git in a temporary one.

    So paths in parameters, in `MLFLOW_TRACKING_URI` and in what is printed mean what the caller means by them.
    """
    import psutil

    try:
        if launcher:
            os.chdir(launcher.cwd())
            return
    except (psutil.Error, OSError):
        pass
    if RELATIVE_STORE.match(store := os.environ.get("MLFLOW_TRACKING_URI", "")):
        raise InputError(
            f"MLFLOW_TRACKING_URI={store} names one database for mlflow run and another for this command, which work "
            "in different folders: give the whole path, with four slashes, as sqlite:////home/me/mlflow.db."
        )


def end_with(launcher: "Process") -> None:
    """Ask this process to stop when the launcher is gone: killed alone, it would leave a training nobody waits for."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        while launcher.is_running() and launcher.status() != psutil.STATUS_ZOMBIE:
            time.sleep(1)
    os.kill(os.getpid(), signal.SIGTERM)
