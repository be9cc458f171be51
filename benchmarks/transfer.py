"""What it brings to start from a registered model of another data set, by the number of training images.

    python -m benchmarks.transfer --dataset ../shared/mnist

Trainings that are recorded are not done again.
"""

import click
import pandas as pd

from benchmarks import runs
from pipeline.cli.dataset import DATASETS
from pipeline.cli.options import split_names
from pipeline.cli.process import run
from pipeline.data import sources
from pipeline.ending import catch_signals
from pipeline.files import default_root
from pipeline.registry import versions

WAYS = {"from scratch": {}, "fine-tuned": {"freeze": "none"}, "frozen features": {"freeze": "features"}}


@click.command()
@click.option("--dataset", default="mnist", show_default=True, help=f"What to learn: {DATASETS}.")
@click.option("--source", default="digits", show_default=True, help="The data set of the models to start from.")
@click.option("--models", "names", default="mlp,cnn", show_default=True, help="Architectures, separated by commas.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each.")
@click.option("--sizes", default="100,1000,10000", show_default=True, help="Numbers of training images.")
# To choose an epoch by as many images as a whole training has would help one of 100 too much.
@click.option("--val-size", type=click.IntRange(2), default=1000, show_default=True, help="Images to choose the epoch.")
@click.option("--epochs", type=click.IntRange(1), help="Fewer than the recipes have, for a quick look.")
def main(dataset: str, source: str, names: str, seeds: int, sizes: str, val_size: int, epochs: int | None) -> None:
    """Print accuracy on the test images by architecture, number of training images and start."""
    catch_signals()
    images, others = sources.load(dataset, default_root()), sources.load(source, default_root())
    quick = {"epochs": epochs} if epochs else {}
    rows = []
    for name in split_names(names):
        origin = versions.version_of(runs.finished(name, others, **quick).info.run_id, f"{others.name}-{name}").uri
        for size in map(int, split_names(sizes)):
            row = {"architecture": name, "training images": f"{size:,}"}
            for way, options in WAYS.items():
                found = pd.Series(
                    runs.finished(
                        name,
                        images,
                        seed=seed,
                        source=origin if options else "none",
                        limit=size,
                        val_size=val_size,
                        **options,
                        **quick,
                    ).data.metrics["test/accuracy"]
                    for seed in range(seeds)
                )
                row[way] = f"{found.mean():.2%}" + (f" ± {found.std():.2%}" if seeds > 1 else "")
            rows.append(row)
    print(
        f"\nAccuracy on the {len(images.test):,} test images of {images.name}, mean and standard deviation over "
        f"{seeds} seeds.\nFine-tuned and frozen start from the registered model of {source}, seed 0; "
        f"{val_size:,} images choose the epoch.\n"
    )
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    run(main, "benchmarks.transfer")
