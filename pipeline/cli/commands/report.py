"""The command `report`."""

import tempfile
from pathlib import Path
from typing import Any

import click

from pipeline.cli.options import LocalPath
from pipeline.cli.selection import NARROWING, is_usual, select, selection_options, write_report
from pipeline.ending import catch_signals
from pipeline.files import PAGES, check_ending
from pipeline.metrics.catalog import check_columns


@click.command("report")
@selection_options
@click.option("--output", type=LocalPath(), default="report.html", show_default=True, help="Where to write the page.")
def report(output: Path, **selection: Any) -> None:
    """Write a comparison as one page with tables and drawings, and log it to the study's run."""
    check_columns(selection["metric"], selection["sort"])
    check_ending(output, PAGES)
    from pipeline.tracking import runs, schema
    from pipeline.tracking.pages import run_url

    catch_signals()
    study_id, comparison = select(**selection)
    source = f"study {study_id}" if study_id else f"all trainings of the experiment {selection['experiment']}".rstrip()
    source += "".join(f", {name} {selection[key]}" for key, name in NARROWING.items() if selection[key])
    write_report(output, comparison, source=source)
    click.echo(f"Written to {output}.")
    if study_id:
        runs.nest_launcher_run("report", under=study_id)
    if study_id and is_usual(**selection):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, schema.REPORT).write_bytes(output.read_bytes())
            runs.log_artifacts(study_id, Path(folder))
        click.echo(f"Look at it: {run_url(study_id)}")
