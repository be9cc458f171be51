"""The command `prepare`."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.cli.dataset import dataset_options, load_dataset
from pipeline.cli.options import root_option
from pipeline.cli.process import catch_signals


@click.command("prepare")
@dataset_options(default="mnist")
@root_option
def prepare(dataset: str, side: int | None, frame: bool, root: Path) -> None:
    """Fetch a data set, check it, describe it in a manifest and record it in MLflow."""
    from pipeline.data import manifest
    from pipeline.evaluation import figures
    from pipeline.files import atomic_write
    from pipeline.tracking import runs, schema
    from pipeline.tracking.client import launcher_run, run_url

    catch_signals()
    images = load_dataset(dataset, root, side=side, frame=frame)
    found = manifest.describe(images)
    target = root / "manifests" / f"{images.name}-{images.sha256[:12]}.json"
    with atomic_write(target) as temporary:
        temporary.write_text(json.dumps(found, indent=2) + "\n")
    tags = {schema.KIND: schema.PREPARATION, schema.DATASET: images.name, schema.DATASET_SHA256: images.sha256}
    with (
        runs.open_run(f"prepare {images.name}", tags=tags, run_id=launcher_run()) as run_id,
        tempfile.TemporaryDirectory() as folder,
    ):
        Path(folder, "manifest.json").write_text(target.read_text())
        figures.samples(images).savefig(Path(folder, "samples.png"), dpi=110)
        runs.log_artifacts(run_id, Path(folder))
        for context, part in (("training", images.train), ("test", images.test)):
            runs.log_images(run_id, part, f"{images.name}-{context}", context=context)
    describe(found)
    click.echo(f"Manifest: {target}\nSamples:  {run_url(run_id)}")


def describe(manifest: Mapping[str, Any]) -> None:
    """Print the findings of `prepare`."""
    for part in ("train", "test"):
        values = manifest[part]
        counts = values["images_per_class"].values()
        click.echo(
            f"{manifest['name']} {part}: {values['images']:,} images of {values['height']} x {values['width']} px, "
            f"{min(counts):,} to {max(counts):,} a class, mean {values['mean']}, standard deviation {values['std']}"
        )
        if values["absent_classes"]:
            click.echo(f"  without any image of {', '.join(values['absent_classes'])}")
    if repeated := manifest["test_images_also_in_train"]:
        click.echo(f"  {repeated:,} test images also occur in training: accuracy on them says nothing")
    click.echo(f"SHA-256 of the content: {manifest['sha256']}")
