"""The command line. Heavy modules are imported where they are used, so that help answers at once."""

import click

from pipeline.cli.clean import clean
from pipeline.cli.compare import compare
from pipeline.cli.evaluate import evaluate
from pipeline.cli.export import export
from pipeline.cli.main import main_command
from pipeline.cli.models import models_command
from pipeline.cli.playground import playground
from pipeline.cli.predict import predict
from pipeline.cli.prepare import prepare
from pipeline.cli.process import run
from pipeline.cli.promote import promote
from pipeline.cli.report import report
from pipeline.cli.sync import sync
from pipeline.cli.train import train


@click.group(
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        # `mlflow run -P batch_size=64` arrives as --batch_size 64.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
def commands() -> None:
    """Train vision architectures on handwritten digits, record them in MLflow, compare them.

    The same commands as `mlflow run . -e COMMAND -P name=value`.
    """


for command in (
    main_command,
    prepare,
    models_command,
    train,
    compare,
    report,
    promote,
    predict,
    evaluate,
    export,
    playground,
    sync,
    clean,
):
    commands.add_command(command)


def main() -> None:
    """Run the command that the arguments name."""
    run(commands, "pipeline")
