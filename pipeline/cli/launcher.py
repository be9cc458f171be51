"""How a command was started: where `mlflow run` did it, it works in the caller's folder and ends with the launcher."""

import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import InputError

if TYPE_CHECKING:
    from psutil import Process

PROJECT = Path(__file__).resolve().parents[2]
# The program of an installed project.
INSTALLED = "digit-comparison"
# What MLflow's launcher runs a command in.
SHELLS = ("bash", "sh", "dash", "cmd.exe")
# An SQLite file below whatever folder a process works in.
RELATIVE_STORE = re.compile(r"sqlite(\+\w+)?:///(?!/|[A-Za-z]:|:memory:|$)")


def follow_launcher() -> None:
    """Join the launcher, where there is one.

    Raises:
        InputError: this command would use another database than the launcher.
    """
    launcher = find_launcher()
    if "MLFLOW_RUN_ID" in os.environ and Path.cwd() == PROJECT:
        go_to_the_caller(launcher)
    if launcher:
        threading.Thread(target=end_with, args=(launcher,), daemon=True).start()


@cache
def find_launcher() -> "Process | None":
    """The process that runs `mlflow run`; None where this one was started in another way."""
    if "MLFLOW_RUN_ID" not in os.environ:
        return None
    import psutil

    try:
        # A shell stands between.
        nearest = next((above for above in psutil.Process().parents() if above.name() not in SHELLS), None)
        # Not by its name: a script is called as its file is, whatever runs it.
        return nearest if nearest and Path(nearest.exe()).name.lower().startswith(("mlflow", "python")) else None
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


def program(module: str = "pipeline") -> str:
    """What a user types before a command: the installed program, or the module."""
    return INSTALLED if Path(sys.argv[0]).stem == INSTALLED else f"python -m {module}"


def retyped(changes: Mapping[str, str | None]) -> str:
    """The command that started this process as it was typed, but for some parameters; None leaves one out."""
    import psutil

    launcher = find_launcher()
    try:
        words = launcher.cmdline() if launcher else []
    except psutil.Error:
        words = []
    if "run" in words:
        return shlex.join(["mlflow", *with_changes(words[words.index("run") :], changes, "-P {name}={value}")])
    return shlex.join([*program().split(), *with_changes(sys.argv[1:], changes, "--{name} {value}")])


def with_changes(words: Sequence[str], changes: Mapping[str, str | None], form: str) -> list[str]:
    """Words of a command without some parameters, then those of them that have a value."""
    names = "|".join(name.replace("_", "[-_]") for name in changes)
    # A zero byte, which no word holds, stands before each: `-P name=x`, `-Pname=x`, `--name x` and `--name=x`.
    text = "".join(f"\0{word}" for word in words)
    kept = re.sub(rf"\0(-P\0?({names})=|--({names})[=\0])[^\0]*", "", text).split("\0")[1:]
    added = [form.format(name=name, value=value) for name, value in changes.items() if value is not None]
    return [*kept, *" ".join(added).split()]
