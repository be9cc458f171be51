"""The command `playground`."""

from contextlib import suppress
from pathlib import Path

import click

from pipeline.cli.options import LocalPath, root_option, split_names, trust_option
from pipeline.cli.selection import nest_launcher_run
from pipeline.ending import catch_signals
from pipeline.errors import InputError, Interrupted


@click.command("playground")
@click.option("--models", "names", default="all", show_default=True, help="Registered models with a champion, or URIs.")
@click.option("--dataset", default="digits", show_default=True, help="What corrected digits are added to a copy of.")
@click.option(
    "--corrections",
    type=LocalPath(),
    default="corrected-digits",
    show_default=True,
    help="Folder of that copy, made with the first.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0: every one.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8765, show_default=True, help="Port to listen at; 0: a free one."
)
@click.option("--browser", type=bool, default=True, show_default=True, help="Open the page in the browser.")
@trust_option
@root_option
def playground(
    names: str, dataset: str, corrections: Path, host: str, port: int, browser: bool, trust: str, root: Path
) -> None:
    """Draw digits on a local web page and see what every champion says."""
    from pipeline.data import sources
    from pipeline.playground import app
    from pipeline.playground.corrections import Corrections
    from pipeline.registry import loading, versions

    catch_signals()
    uris = [version.uri for version in versions.champions()] if names == "all" else split_names(names)
    if not uris:
        raise InputError("No registered model has a champion yet: run `mlflow run . -e promote -P model=all` first.")
    folder = Corrections(corrections, lambda: sources.load(dataset, root))
    loaded = []
    for uri in uris:
        uri = uri if ":" in uri or "/" in uri else f"models:/{uri}@{versions.CHAMPION}"
        loaded.append(loading.load(uri, trusted=split_names(trust)))
        click.echo(f"Loaded {loaded[-1].label}")
    nest_launcher_run("playground", loaded[0].version)
    with suppress(Interrupted):
        app.serve(loaded, folder, host=host, port=port, browser=browser)
    click.echo("Ended.")
