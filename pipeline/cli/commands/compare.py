"""The command `compare`."""

import gc
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import LocalPath
from pipeline.cli.selection import is_usual, select, selection_options, show_comparison
from pipeline.files import TABLES, check_ending
from pipeline.metrics.catalog import check_columns


@click.command("compare")
@selection_options
@click.option("--against", default="", help="Lay the runs of another store beside: a folder with mlflow.db, or a URI.")
@click.option(
    "--output", type=LocalPath(), help="Write the table to a file ending in .csv, .md, .json, .parquet or .tex."
)
def compare(against: str, output: Path | None, **selection: Any) -> None:
    """Compare finished trainings: which architecture is better, and how sure that is."""
    check_columns(selection["metric"], selection["sort"])
    if output:
        check_ending(output, TABLES)
    # SQLAlchemy makes a hundred thousand objects of two thousand runs: looking for garbage among them would double the
    # time of the whole command.
    gc.disable()
    click.get_current_context().call_on_close(gc.enable)
    from pipeline.comparison import tables
    from pipeline.tracking import runs

    study_id, comparison = select(**selection, against=against)
    if study_id:
        runs.nest_launcher_run("compare", under=study_id)
        show_comparison(study_id, comparison, log=not against and is_usual(**selection))
    else:
        tables.show(comparison)
    if output:
        tables.write(comparison, output)
        click.echo(f"Written to {output}.")
