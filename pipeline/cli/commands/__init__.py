"""The command line. Heavy modules are imported where they are used, so that help answers at once."""

import click

from pipeline.cli.commands.clean import clean
from pipeline.cli.commands.compare import compare
from pipeline.cli.commands.evaluate import evaluate
from pipeline.cli.commands.export import export
from pipeline.cli.commands.main import main_command
from pipeline.cli.commands.models import models_command
from pipeline.cli.commands.plan import plan
from pipeline.cli.commands.playground import playground
from pipeline.cli.commands.predict import predict
from pipeline.cli.commands.prepare import prepare
from pipeline.cli.commands.promote import promote
from pipeline.cli.commands.report import report
from pipeline.cli.commands.sync import sync
from pipeline.cli.commands.train import train
from pipeline.cli.commands.tune import tune
from pipeline.cli.process import run


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
    tune,
    compare,
    report,
    plan,
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
