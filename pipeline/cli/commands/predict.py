"""The command `predict`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import click

from pipeline.cli.options import LocalPath, model_uri_option, split_names, switch
from pipeline.cli.selection import nest_launcher_run
from pipeline.ending import catch_signals
from pipeline.errors import PipelineError
from pipeline.files import ANSWERS, check_ending

# So many answers at most are printed, too.
PRINTED = 20


@click.command("predict")
@model_uri_option
@click.option(
    "--input", "source", required=True, help="A picture, a folder of them, or an IDX, .npy, .csv or .tsv file."
)
@click.option(
    "--output",
    type=LocalPath(),
    default="predictions.csv",
    show_default=True,
    help="File ending in .csv, .jsonl or .parquet.",
)
@click.option(
    "--as",
    "form",
    type=click.Choice(["rows", "kaggle"]),
    default="rows",
    show_default=True,
    help="A row a digit, or ImageId and Label as Kaggle takes them.",
)
@switch("--raw", "Take pictures as they are: no inverting, cropping, centring.")
def predict(model_uri: str, trust: str, source: str, output: Path, form: Literal["rows", "kaggle"], raw: bool) -> None:
    """Say what a registered model takes images in files for."""
    check_ending(output, ANSWERS)
    from pipeline.inference import image_files

    found = image_files.find(Path(source).expanduser())
    from pipeline.inference import predict
    from pipeline.registry import loading

    catch_signals()
    model = loading.load(model_uri, trusted=split_names(trust))
    nest_launcher_run("predict", model.version)
    answered, skipped = predict.predict(model, found, output, raw=raw, form=form)
    if answered <= PRINTED and form == "rows":
        click.echo("\n".join(in_words(output)))
    click.echo(f"{model.label} answered {answered:,} image{'s' * (answered != 1)}: written to {output}.")
    if skipped:
        raise PipelineError(f"{skipped:,} files or images could not be read and were skipped.")


def in_words(answers: Path) -> Iterator[str]:
    """A line a picture of a file of answers: its label, with probability and the next two, or all that it shows."""
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
        digits = rows.to_dict("records")
        # Of one digit what else it may be, of several each.
        found = [(digits[0], rank) for rank in ranks] if len(digits) == 1 else [(digit, "") for digit in digits]
        said = ", ".join(f"{of[f'label{rank}']} ({float(of[f'probability{rank}']):.1%})" for of, rank in found)
        whole = f"{digits[0]['text']}: " if len(digits) > 1 else ""
        unsure = "; unsure" if any(str(digit["unsure"]) == "True" for digit in digits) else ""
        yield f"{file}{f', image {image}' * bool(several)}: {whole}{said}{unsure}"
