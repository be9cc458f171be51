"""The command `predict`."""

from collections.abc import Iterator
from pathlib import Path

import click

from pipeline.cli.options import LocalPath, model_uri_option, split_names, switch
from pipeline.cli.process import catch_signals
from pipeline.cli.selection import nest_launcher_run
from pipeline.errors import PipelineError
from pipeline.files import ANSWERS, check_ending

# So many answers at most are printed, too.
PRINTED = 20


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
    if answered <= PRINTED:
        click.echo("\n".join(in_words(output)))
    click.echo(f"{model.label} answered {answered:,} image{'s' * (answered != 1)}: written to {output}.")
    if skipped:
        raise PipelineError(f"{skipped:,} files or images could not be read and were skipped.")


def in_words(answers: Path) -> Iterator[str]:
    """A line an image of a file of answers: label, probability, and the next two; or what a detector found in it."""
    import pandas as pd

    readers = {
        ".csv": lambda path: pd.read_csv(path, dtype=str, keep_default_na=False),
        ".jsonl": lambda path: pd.read_json(path, lines=True, dtype=False),
        ".parquet": pd.read_parquet,
    }
    table = readers[answers.suffix](answers)
    if table.empty:
        yield "Nothing was found."
        return
    several = table["image"].astype(int).max() > 0
    ranks = [name.removeprefix("label") for name in table if name.startswith("label")]
    for (file, image), rows in table.groupby(["file", "image"], sort=False):
        found = [(row[f"label{rank}"], row[f"probability{rank}"]) for row in rows.to_dict("records") for rank in ranks]
        said = ", ".join(f"{label} ({float(probability):.1%})" for label, probability in found)
        yield f"{file}{f', image {image}' * bool(several)}: {said}"
