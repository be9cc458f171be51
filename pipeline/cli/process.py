"""A command as a process: its environment, exit codes, every expected failure as one sentence."""

import gc
import getpass
import io
import logging
import os
import re
import sys
from pathlib import Path

import click

from pipeline.cli.launcher import follow_launcher, program
from pipeline.ending import leave, on_signals
from pipeline.errors import InputError, Interrupted, PipelineError, first_line, reason

# So many new objects before garbage is looked for: importing makes 700,000 that all stay.
OBJECTS = 200_000
# Read by MLflow and git when they are imported; what the user has set stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that refuses is noticed in three seconds, a silent one in four minutes; one that now and then answers
    # with an error is asked eight times. Every pause but the first is a random part of a second.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0",
    "MLFLOW_HTTP_REQUEST_BACKOFF_JITTER": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
    # Every command says itself where to look.
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
# What click calls a number, and what people do.
NUMBERS = {"integer": "is no whole number", "float": "is no number"}


class Echo(logging.Handler):
    """What the pipeline's modules log, as plain lines: news on stdout, what went wrong on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=record.levelno >= logging.WARNING)


def run(command: click.Command, module: str) -> None:
    """Run a command and turn every expected failure into one sentence and an exit code."""
    # Looking through what libraries made takes a fifth of a short command.
    gc.set_threshold(OBJECTS)
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    name_the_user()
    for stream in (sys.stdout, sys.stderr):
        # Names of files may be no text, and saying them must not fail.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("RANK", "0") != "0":
        # Of the processes of one training the first one says it.
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115
    logger = logging.getLogger("pipeline")
    logger.handlers, logger.propagate = [Echo()], False
    logger.setLevel(logging.INFO)
    on_signals(leave)
    try:
        follow_launcher()
        command.main(prog_name=program(module), standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
    except click.ClickException as error:
        hint = f" See {error.ctx.command_path} --help." if isinstance(error, click.UsageError) and error.ctx else ""
        fail(f"{in_words(error.format_message())}{hint}", InputError.exit_code)
    except PipelineError as error:
        fail(str(error), error.exit_code)
    except Interrupted as error:
        fail("Interrupted; a study or search goes on when it is run again, a training with --resume.", error.exit_code)
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        fail(sentence, PipelineError.exit_code)


def in_words(message: str) -> str:
    """What click says of an option, in the words of people."""
    for kind, words in NUMBERS.items():
        message = re.sub(rf"is not a valid {kind}( range)?\b", words, message)
    return message


def explain(error: Exception) -> str | None:
    """A sentence for a failure that is no fault of this program's, None for others."""
    # A command that never asked the server cannot have failed on it, and importing this takes seconds.
    client = sys.modules.get("pipeline.tracking.client")
    if client and client.is_away(error):
        return str(client.unusable(client.mlflow.get_tracking_uri(), error))
    if sentence := reason(error):
        return sentence
    if isinstance(error, OSError):
        return f"{error.strerror or first_line(error)}{f': {error.filename}' if error.filename else ''}."
    # What MLflow refuses; its class cannot be named without importing it.
    return f"MLflow refused: {first_line(error)}." if type(error).__module__.startswith("mlflow.") else None


def name_the_user() -> None:
    """Give a user without a name or a home, as in a container, what MLflow and torch ask for when they are imported."""
    try:
        getpass.getuser()
    except (KeyError, OSError, ImportError):
        os.environ["LOGNAME"] = f"uid-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        # As Docker does. Nothing can be written there, which is said where it matters.
        os.environ["HOME"] = "/"


def fail(message: str, exit_code: int) -> None:
    """Say what went wrong and leave."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(exit_code)
