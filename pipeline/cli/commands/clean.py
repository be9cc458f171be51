"""The command `clean`."""

from pathlib import Path

import click

from pipeline.cli.options import root_option, switch
from pipeline.ending import catch_signals


@click.command("clean")
@click.option(
    "--study", default="", help="Run id of a study or search to remove with its trainings, models and evaluations."
)
@switch("--delete", "Remove what is listed; otherwise it is only shown.")
@root_option
def clean(study: str, delete: bool, root: Path) -> None:
    """List trials, failed runs and orphaned checkpoints of the experiment, or a study, and remove them when told to."""
    from pipeline.tracking import runs
    from pipeline.tracking.client import connect, current_experiment
    from pipeline.training import cleaning
    from pipeline.training.continuation import Place

    catch_signals()
    client, experiment = connect(), current_experiment()
    runs.nest_launcher_run("clean", under=None)
    if study:
        found = list(cleaning.find_study(client, study, root))
    else:
        place = Place(root, client, experiment)
        found = [*cleaning.find_runs(client, experiment, root), *cleaning.find_journals(place)]
    for leftover in found:
        if delete:
            leftover.remove()
        click.echo(f"{'Removed' if delete else 'Would remove'} {leftover.what}: {leftover.why}.")
    if not found:
        click.echo("There is nothing to remove.")
    elif not delete:
        click.echo("Nothing was removed: -P delete=true, or --delete, does it.")
