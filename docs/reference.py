"""The reference of all commands, made from the commands themselves: `python -m docs.reference > docs/reference.md`."""

import click

from pipeline.cli.commands import commands
from pipeline.cli.options import Auto

HEAD = """\
# Reference of the commands

Made from the commands themselves by `python -m docs.reference > docs/reference.md`: edit the texts in `pipeline/cli/`,
not this page.

A parameter is given as `-P name=value` to `mlflow run . -e COMMAND`, or as `--name value` to `python -m pipeline
COMMAND`, which takes `-` and `_` alike. `auto` means the recipe in the architecture's file, or what the machine offers.
A switch that is `false` by default is turned on by `-P name=true`, or by `--name` alone.
"""


def markdown() -> str:
    """A section a command, with a table of its parameters."""
    sections = [section(name, command) for name, command in commands.commands.items()]
    return "\n".join([HEAD, *sections])


def section(name: str, command: click.Command) -> str:
    """One command: its help, then a row a parameter."""
    lines = [f"## `{name}`", "", " ".join((command.help or "").split()), ""]
    lines += ["| parameter | type | default | meaning |", "|:---|:---|:---|:---|"]
    for option in command.params:
        cells = (f"`{parameter(option)}`", f"`{kind(option.type)}`", default(option), option.help or "")
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join([*lines, ""])


def parameter(option: click.Parameter) -> str:
    """Its name as `-P name=value` has it."""
    return option.opts[0].removeprefix("--").replace("-", "_")


def kind(of: click.ParamType) -> str:
    """What may stand behind the name."""
    if isinstance(of, Auto):
        return f"auto|{kind(of.inner)}"
    if isinstance(of, click.Choice):
        return "|".join(of.choices)
    if isinstance(of, (click.IntRange, click.FloatRange)):
        low = "" if of.min is None else f"{of.min}{'<' if of.min_open else '<='}"
        high = "" if of.max is None else f"{'<' if of.max_open else '<='}{of.max}"
        return f"{of.name.removesuffix(' range')} {low}x{high}"
    if isinstance(of, click.DateTime):
        return "date"
    return of.name


def default(option: click.Parameter) -> str:
    """What holds when it is left out, without the folders of whoever made the page."""
    if option.required:
        return "required"
    if isinstance(option.show_default, str):
        return option.show_default
    # An option without a default has an object of click's own in its place.
    if not isinstance(option.default, (str, int, float)) or option.default == "":
        return ""
    return f"`{str(option.default).lower() if isinstance(option.default, bool) else option.default}`"


if __name__ == "__main__":
    click.echo(markdown(), nl=False)
