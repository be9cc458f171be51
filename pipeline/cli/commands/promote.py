"""The command `promote`."""

import click

from pipeline.cli.options import Auto, switch
from pipeline.cli.selection import find_versions, margin_option, nest_launcher_run
from pipeline.ending import catch_signals
from pipeline.errors import InputError, Refusal


@click.command("promote")
@click.option("--study", default="latest", show_default=True, help="Run id of a study.")
@click.option(
    "--model",
    default="best",
    show_default=True,
    help="best of the study, an architecture of it, all of them, ensemble for their vote, or a registered model, its "
    "newest version.",
)
@click.option(
    "--version", type=Auto(click.IntRange(1)), default="auto", show_default=True, help="Of the registered model."
)
@switch(
    "--allow-equivalent",
    "Also promote what is at most the margin worse than the champion and needs fewer FLOPs an answer.",
    "--allow-tie",
)
@margin_option
@switch("--rollback", "Swap champion and previous champion of the model.")
@switch("--dry-run", "Show the decision without writing anything.")
def promote(
    study: str,
    model: str,
    version: int | None,
    allow_equivalent: bool,
    margin: float | None,
    rollback: bool,
    dry_run: bool,
) -> None:
    """Make a registered model its name's champion, if there is evidence that it is better."""
    from pipeline.registry import promotion
    from pipeline.tracking.schema import ENSEMBLE

    catch_signals()
    if dry_run and model == ENSEMBLE:
        raise InputError("A vote is registered before it is judged: leave dry_run out.")
    refusals = []
    versions = find_versions(study, model, version)
    nest_launcher_run("promote", versions[0])
    for candidate in versions:
        try:
            if rollback:
                done = promotion.roll_back(candidate.name, dry_run=dry_run)
            else:
                done = promotion.promote(candidate, allow_equivalent=allow_equivalent, margin=margin, dry_run=dry_run)
            click.echo(done)
        except Refusal as refusal:
            refusals.append(refusal)
            if len(versions) > 1:
                click.echo(f"{candidate}: {refusal}", err=True)
    if len(versions) > 1 and refusals:
        raise Refusal(f"{len(refusals)} of {len(versions)} were not promoted.")
    if refusals:
        raise refusals[0]
