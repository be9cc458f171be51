"""The command `predict`."""

from pathlib import Path
from typing import Literal

import click

from pipeline.cli.options import model_uri_option, split_names, switch
from pipeline.cli.process import catch_signals
from pipeline.cli.selection import nest_launcher_run
from pipeline.errors import PipelineError


@click.command("predict")
@model_uri_option
@click.option(
    "--input", "source", required=True, help="A picture, a folder of them, or an IDX, .npy, .csv or .tsv file."
)
@click.option("--output", default="predictions.csv", show_default=True, help="File ending in .csv, .jsonl or .parquet.")
@click.option(
    "--as",
    "form",
    type=click.Choice(["rows", "kaggle"]),
    default="rows",
    show_default=True,
    help="A row a digit, or ImageId and Label as Kaggle takes them.",
)
@switch("--raw", "Take pictures as they are: no inverting, cropping, centring.")
def predict(model_uri: str, trust: str, source: str, output: str, form: Literal["rows", "kaggle"], raw: bool) -> None:
    """Say what a registered model takes images in files for."""
    from pipeline.inference import predict
    from pipeline.registry import loading

    catch_signals()
    path = Path(output).expanduser()
    predict.check_ending(path)
    model = loading.load(model_uri, trusted=split_names(trust))
    nest_launcher_run("predict", model.version)
    answered, skipped = predict.predict(model, Path(source).expanduser(), path, raw=raw, form=form)
    click.echo(f"{model.label} answered {answered:,} images: written to {output}.")
    if skipped:
        raise PipelineError(f"{skipped:,} files or images could not be read and were skipped.")
