"""What a command downloads, said before it does, and the command that works where it cannot."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

from pipeline.cli.launcher import retyped
from pipeline.errors import InputError, Unreachable
from pipeline.network import Download


def to_download(dataset: str, downloads: Sequence[Download]) -> str:
    """A data set's name, with what it takes to have it."""
    return " ".join([dataset, *(f"({download.megabytes:.0f} MB to download)" for download in downloads)])


@contextmanager
def announced(downloads: Sequence[Download]) -> Iterator[None]:
    """Say what the block downloads first.

    Raises:
        InputError: there is no network for it; the text has a command that needs none.
    """
    if downloads:
        click.echo(f"Downloading {', '.join(map(str, downloads))}, once.")
    try:
        yield
    except Unreachable as error:
        instead = {name: value for download in downloads for name, value in download.instead.items()}
        if not instead:
            raise
        raise InputError(
            f"{error.what} could not be downloaded ({error.why}). Without network this works now: {retyped(instead)}"
        ) from error
