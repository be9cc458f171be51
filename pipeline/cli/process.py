"""A command as a process: signals, exit codes, every expected failure as one sentence."""

import logging
import os
import signal
import sys

import click

from pipeline.errors import InputError, Interrupted, PipelineError

STOPPING = (signal.SIGINT, signal.SIGTERM)
# Read by MLflow and git when they are imported; what the user has set stays.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A silent server is noticed after two minutes instead of four.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "5",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "GIT_PYTHON_REFRESH": "quiet",
}


class Echo(logging.Handler):
    """What the pipeline's modules log, as plain lines: news on stdout, what went wrong on stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=record.levelno >= logging.WARNING)


def run(command: click.Command, module: str) -> None:
    """Run a command and turn every expected failure into one sentence and an exit code."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
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


def catch_signals() -> None:
    """From here on there is something to end in order: unwind the stack when asked to stop."""
    for number in STOPPING:
        signal.signal(number, interrupt)


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
