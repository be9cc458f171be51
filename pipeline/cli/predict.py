"""The command `predict`."""

from pathlib import Path

import click

from pipeline.cli.options import LocalPath, model_uri_option, split_names, switch
from pipeline.cli.process import catch_signals
from pipeline.cli.selection import nest_launcher_run
from pipeline.errors import PipelineError
from pipeline.files import ANSWERS, check_ending


@click.command("predict")
@model_uri_option
@click.option("--input", "source", required=True, help="A PNG or JPEG, a folder of them, or an IDX, .npy or .csv file.")
@click.option(
    "--output",
    type=LocalPath(),
    default="predictions.csv",
    show_default=True,
    help="File ending in .csv, .jsonl or .parquet.",
)
@switch("--raw", "Take pictures as they are: no inverting, cropping, centring.")
def predict(model_uri: str, trust: str, source: str, output: Path, raw: bool) -> None:
    """Say what a registered model takes images in files for."""
    check_ending(output, ANSWERS)
    path = Path(source).expanduser()
    from pipeline.inference import image_files

    image_files.find(path)
    from pipeline.inference import predict
    from pipeline.registry import loading

    catch_signals()
    model = loading.load(model_uri, trusted=split_names(trust))
    nest_launcher_run("predict", model.version)
    answered, skipped = predict.predict(model, path, output, raw=raw)
    click.echo(f"{model.label} answered {answered:,} images: written to {output}.")
    if skipped:
        raise PipelineError(f"{skipped:,} files or images could not be read and were skipped.")
