"""The command `plan`."""

from typing import Any

import click

from pipeline.cli.options import Finite
from pipeline.cli.selection import margin_option, select, trainings_options
from pipeline.errors import InputError


@click.command("plan")
@trainings_options
@margin_option
@click.option(
    "--power",
    type=Finite(0.5, 0.99),
    default=0.8,
    show_default=True,
    help="How likely each decision shall be.",
)
def plan(margin: float | None, power: float, **selection: Any) -> None:
    """Say how many seeds or test images decide by the margin, from how much the trainings of an earlier study vary."""
    from pipeline.comparison import needs, tables

    _, comparison = select(**selection, margin=margin, metric="accuracy", sort="")
    groups = [(key, rows) for key, rows in comparison.groups() if any(place[0] == key for place in comparison.designs)]
    if not groups:
        raise InputError(
            "There is nothing to plan from: it takes what two architectures under one protocol answered. Train them "
            "first, `mlflow run . -e main -P seeds=2`: few epochs will do."
        )
    for key, rows in groups:
        within = rows["margin"].iloc[0]
        if not within:
            raise InputError("--margin 0 leaves nothing to plan for: give the difference that matters.")
        designs = {label: design for (protocol, label), design in comparison.designs.items() if protocol == key}
        click.echo(f"\nPlanned from {tables.title(comparison, key)}.\n")
        click.echo(needs.plan_table(rows[rows["verdict"] == "best"]["label"].iloc[0], designs, within, power))
        click.echo(
            f"\nSo many test images with so many seeds of each decide with {power:.0%} probability: the first number "
            f"tells those apart whose accuracies differ by {tables.within('accuracy', within)}, the second shows "
            "equals to be equivalent within it, all pairs at once; –: not even ten million do."
        )
        if all(design.between is None for design in designs.values()):
            click.echo("How much seeds differ is unknown with one of each: train several, -P seeds=3.")
