"""A command as a process: signals, exit codes, every expected failure as one sentence."""

import getpass
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

import click

from pipeline.errors import InputError, Interrupted, PipelineError

# Windows knows no hang-up of a terminal.
STOPPING = (signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else []))
# Read by MLflow and git when they are imported; what the user has set stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that is away is noticed after some seconds instead of four minutes; one that answers every fifth
    # request with an error is asked again.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "0.5",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # Every command says itself where to look.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


class Echo(logging.Handler):
    """What the pipeline's modules log, as plain lines: news on stdout, what went wrong on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=record.levelno >= logging.WARNING)


def run(command: click.Command, module: str) -> None:
    """Run a command and turn every expected failure into one sentence and an exit code."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    name_user()
    logger = logging.getLogger("pipeline")
    logger.handlers, logger.propagate = [Echo()], False
    logger.setLevel(logging.INFO)
    for number in STOPPING:
        signal.signal(number, leave)
    try:
        command.main(prog_name=f"python -m {module}", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
    except click.ClickException as error:
        hint = f" See {error.ctx.command_path} --help." if isinstance(error, click.UsageError) and error.ctx else ""
        fail(f"{error.format_message()}{hint}", InputError.exit_code)
    except PipelineError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.", PipelineError.exit_code)
    except Interrupted as error:
        fail("Interrupted; a study goes on when it is run again, a training with --resume.", error.exit_code)
    except Exception as error:
        # What MLflow refuses is no fault of this program's; its class cannot be named without importing it.
        if not type(error).__module__.startswith("mlflow."):
            raise
        fail(f"MLflow refused: {str(error).strip().splitlines()[0]}", PipelineError.exit_code)


def name_user() -> None:
    """Give a user that the system has no name for one: containers run as numbers, and libraries ask."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"


def catch_signals() -> None:
    """From here on there is something to end in order: unwind the stack when asked to stop, or left by the launcher."""
    for number in STOPPING:
        signal.signal(number, interrupt)
    if "MLFLOW_RUN_ID" in os.environ:
        threading.Thread(target=end_with_launcher, name="launcher", daemon=True).start()


def end_with_launcher() -> None:
    """Ask this process to stop when `mlflow run` is gone: nobody would know that it still trains.

    A shell stands between the two, so that the system's own signal of a parent's end would not do.
    """
    import psutil

    def is_launcher(process: psutil.Process) -> bool:
        try:
            words = process.cmdline()
        except psutil.Error:
            return False
        return "run" in words and any(Path(word).name == "mlflow" for word in words[:3])

    launcher = next(filter(is_launcher, psutil.Process().parents()), None)
    # Where another program made the run, it is for that program to end what it began.
    while launcher and launcher.is_running() and launcher.status() != psutil.STATUS_ZOMBIE:
        time.sleep(1)
    if launcher:
        os.kill(os.getpid(), signal.SIGTERM)


def interrupt(number: int, frame: object) -> None:
    """Signal handler that ends runs and removes temporary files on its way out.

    Later signals are ignored: on Ctrl-C the launcher adds a SIGTERM to the terminal's SIGINT.
    """
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def leave(number: int, frame: object) -> None:
    """Signal handler while libraries are still being imported, which an exception could leave half done."""
    os._exit(128 + number)


def fail(message: str, exit_code: int) -> None:
    """Say what went wrong and leave."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(exit_code)
