"""The command `export`."""

from pathlib import Path

import click

from pipeline.cli.options import LocalPath, model_uri_option, split_names
from pipeline.cli.selection import nest_launcher_run
from pipeline.ending import catch_signals


@click.command("export")
@model_uri_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "pt2", "torchscript"]),
    default="pt2",
    show_default=True,
    help="Format of the file; onnx needs requirements-onnx.txt.",
)
@click.option("--output", type=LocalPath(), help="Where to write it; NAME.onnx, .pt2 or .pt in this folder by default.")
def export(model_uri: str, trust: str, form: str, output: Path | None) -> None:
    """Write a registered model in a format that other runtimes read, and check it against the original."""
    from pipeline.registry import export, loading

    catch_signals()
    model = loading.load(model_uri, trusted=split_names(trust))
    nest_launcher_run("export", model.version)
    ending = {"onnx": ".onnx", "pt2": ".pt2", "torchscript": ".pt"}[form]
    path = output or Path(f"{model.architecture}{ending}").absolute()
    difference = export.export(model, path, form)
    click.echo(
        f"{model.label} written to {path}: uint8 images (N, {model.shape[0]}, {model.shape[1]}) to probabilities. "
        f"On {export.CHECKED} images it differs from the original by at most {difference:.1e}."
    )
