"""The command `models`."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

import click

import models
from pipeline.cli.options import split_names

WIDTH = 110
INDENT = 15


@click.command("models")
@click.option("--model", "names", default="all", show_default=True, help="Architectures, separated by commas.")
def models_command(names: str) -> None:
    """List the architectures: what each is, its arguments, its recipe, whether weights are published."""
    from pipeline import config

    chosen = models.names() if names == "all" else split_names(names)
    for name in chosen:
        config.check_name(name)
    for name in chosen:
        click.secho(name, bold=True)
        for heading, text in described(config.architecture(name)):
            first, rest = f"  {heading}".ljust(INDENT), " " * INDENT
            click.echo(click.wrap_text(text, WIDTH, initial_indent=first, subsequent_indent=rest))


def described(architecture: models.Architecture) -> Iterator[tuple[str, str]]:
    """What there is to know of an architecture, under headings."""
    about = (sys.modules[f"models.{architecture.name}"].__doc__ or "").strip().splitlines()
    yield "what", f"{''.join(about[:1])} For {architecture.task}."
    yield "model_args", listed(architecture.arguments)
    yield "recipe", listed(asdict(architecture.recipe))
    published = architecture.published({})
    if published is None:
        yield "published", "no weights"
        return
    yield "published", f"torchvision's {published} ({published.meta['_file_size']:.0f} MB), the default of `train`"
    fine_tuning = asdict(architecture.recipe_for(pretrained=True))
    differing = {name: value for name, value in fine_tuning.items() if value != getattr(architecture.recipe, name)}
    yield "fine-tuning", listed(differing) or "by the same recipe"


def listed(values: Mapping[str, Any]) -> str:
    """Names with values, as options take them."""
    return ", ".join(f"{name}={value}".replace(" ", "") for name, value in values.items())
