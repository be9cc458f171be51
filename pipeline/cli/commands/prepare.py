"""The command `prepare`."""

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.dataset import dataset_options, load_dataset
from pipeline.cli.downloads import announced
from pipeline.cli.options import LocalPath, root_option
from pipeline.ending import catch_signals

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pipeline.data.images import Dataset


@click.command("prepare")
@dataset_options(default="mnist")
@click.option(
    "--output", type=LocalPath(), help="Also write it as IDX files, which every tool reads, into this new folder."
)
@click.option(
    "--examine",
    type=bool,
    default=True,
    show_default=True,
    help="Also look for near duplicates and for labels that look wrong: about a minute for MNIST.",
)
@root_option
def prepare(dataset: str, side: int | None, frame: bool, output: Path | None, examine: bool, root: Path) -> None:
    """Fetch or read a data set, check it, describe it in a manifest and record it in MLflow."""
    from pipeline.data import sources

    sources.check_name(dataset)
    from pipeline.data import manifest
    from pipeline.data.forms import idx_files
    from pipeline.evaluation import figures
    from pipeline.files import atomic_write
    from pipeline.tracking import runs, schema
    from pipeline.tracking.client import launcher_run
    from pipeline.tracking.pages import run_url

    catch_signals()
    if output:
        idx_files.check_free(output)
    with announced(sources.download_of(dataset, root)):
        images = load_dataset(dataset, root, side=side, frame=frame)
    found, pictures = manifest.describe(images), {"samples": figures.samples(images)}
    if examine:
        more, sheet = examined(images)
        found, pictures = {**found, **more}, {**pictures, **sheet}
    description = json.dumps(found, indent=2) + "\n"
    target = root / "manifests" / f"{images.name}-{images.sha256[:12]}.json"
    with atomic_write(target) as temporary:
        temporary.write_text(description)
    tags = {schema.KIND: schema.PREPARATION, schema.DATASET: images.name, schema.DATASET_SHA256: images.sha256}
    with (
        runs.open_run(f"prepare {images.name}", tags=tags, run_id=launcher_run()) as run_id,
        tempfile.TemporaryDirectory() as artifacts,
    ):
        Path(artifacts, "manifest.json").write_text(description)
        figures.save(pictures, Path(artifacts))
        runs.log_artifacts(run_id, Path(artifacts))
        for context, part in (("training", images.train), ("test", images.test)):
            runs.log_images(run_id, part, f"{images.name}-{context}", context=context)
    describe(found)
    if output:
        idx_files.write(output, images, description)
        click.echo(f"Written:  {output}")
    click.echo(f"Manifest: {target}\nSamples:  {run_url(run_id)}")


def examined(images: "Dataset") -> tuple[dict[str, Any], dict[str, "Figure"]]:
    """Near duplicates and labels that look wrong, for the manifest, and a picture of the latter."""
    from pipeline.data.duplicates import near_duplicates
    from pipeline.data.manifest import MAX_LISTED
    from pipeline.evaluation import figures
    from pipeline.training.suspects import find_suspects

    pairs = near_duplicates(images)
    found: dict[str, Any] = {
        "test_images_nearly_in_train": len(pairs),
        "nearest": [{"test": test, "train": train} for test, train in pairs[:MAX_LISTED].tolist()],
    }
    if not (suspects := find_suspects(images)):
        return found, {}
    said = suspects.log_probabilities.argmax(1)
    classes, targets = images.classes, images.train.targets
    found |= {
        "suspicious_labels": len(suspects.positions),
        "suspects": [
            {"train": position, "label": classes[targets[position]], "mlp_says": classes[said[position]]}
            for position in suspects.positions[:MAX_LISTED].tolist()
        ],
    }
    if not len(suspects.positions):
        return found, {}
    title = f"{images.name}: training images whose labels look wrong to an MLP that learned from the others"
    return found, {"suspects": figures.suspects(images.train, suspects.positions, suspects.log_probabilities, title)}


def describe(manifest: Mapping[str, Any]) -> None:
    """Print the findings of `prepare`."""
    from pipeline.data.forms.parts import some

    classes = list(manifest["train"]["images_per_class"])
    click.echo(f"{len(classes):,} classes: {some(classes, 30)}")
    for part in ("train", "test"):
        values = manifest[part]
        counts = values["images_per_class"].values()
        click.echo(
            f"{manifest['name']} {part}: {values['images']:,} images of {values['height']} x {values['width']} px, "
            f"{min(counts):,} to {max(counts):,} a class, mean {values['mean']}, standard deviation {values['std']}"
        )
        if values["absent_classes"]:
            click.echo(f"  without any image of {', '.join(values['absent_classes'])}")
        if blank := values["without_ink"]:
            click.echo(f"  images without ink: no. {', '.join(map(str, blank[:5]))}{' and more' * (len(blank) > 5)}")
    if repeated := manifest["test_images_also_in_train"]:
        click.echo(f"  {repeated:,} test images also occur in training: accuracy on them says nothing")
    if near := manifest.get("test_images_nearly_in_train", 0) - repeated:
        click.echo(f"  {near:,} more are nearly training images; the manifest names the pairs")
    if suspicious := manifest.get("suspicious_labels"):
        click.echo(f"  {suspicious:,} training labels look wrong; suspects.png shows them, the manifest names them")
    click.echo(f"SHA-256 of the content: {manifest['sha256']}")
