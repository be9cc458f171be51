"""What it brings to start from a registered model of another data set, by the number of training images.

    python -m benchmarks.transfer --dataset ../shared/mnist

Trainings that are recorded are not done again.
"""

import click
import pandas as pd

from benchmarks import runs
from pipeline import cli, data, registry
from pipeline.files import default_root

SIZES = (100, 1_000, 10_000)
# As many whatever the size: to choose an epoch by 5,000 images would help a training of 100 too much.
VALIDATION = 1_000
WAYS = {"from scratch": {}, "fine-tuned": {"freeze": "none"}, "frozen features": {"freeze": "features"}}


@click.command()
@click.option("--dataset", default="mnist", show_default=True, help=f"What to learn: {cli.DATASETS}.")
@click.option("--source", default="digits", show_default=True, help="The data set of the models to start from.")
@click.option("--models", "names", default="mlp,cnn", show_default=True, help="Architectures, separated by commas.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Trainings of each.")
def main(dataset: str, source: str, names: str, seeds: int) -> None:
    """Print accuracy on the test images by architecture, number of training images and start."""
    cli.catch_signals()
    images, others = data.load(dataset, default_root()), data.load(source, default_root())
    rows = []
    for name in cli.split_names(names):
        origin = registry.version_of(runs.finished(name, others).info.run_id).uri
        for size in SIZES:
            row = {"architecture": name, "training images": f"{size:,}"}
            for way, options in WAYS.items():
                found = pd.Series(
                    runs.finished(
                        name,
                        images,
                        seed=seed,
                        source=origin if options else "none",
                        limit=size,
                        val_size=VALIDATION,
                        **options,
                    ).data.metrics["test/accuracy"]
                    for seed in range(seeds)
                )
                row[way] = f"{found.mean():.2%}" + (f" ± {found.std():.2%}" if seeds > 1 else "")
            rows.append(row)
    print(
        f"\nAccuracy on the {len(images.test):,} test images of {images.name}, mean and standard deviation over "
        f"{seeds} seeds.\nFine-tuned and frozen start from the registered model of {source}, seed 0; "
        f"{VALIDATION:,} images choose the epoch.\n"
    )
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))


if __name__ == "__main__":
    cli.run(main, "benchmarks.transfer")
