"""Train every architecture from scratch as its recipe says, and hold accuracy and time against what is promised.

    python -m benchmarks.accuracy --dataset mnist

Each training is recorded as any other. Those finished before are taken as they are and one that was cut goes on, so
that the whole can be done in parts. Exit code 1 when a promise is not kept.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

import click
import pandas as pd
from mlflow.entities import Run

from benchmarks import runs
from benchmarks.reference import plain_rates, write_mnist
from pipeline import cli, data, tracking
from pipeline.files import default_root


@dataclass(frozen=True)
class Promise:
    """What is promised of one architecture on MNIST.

    Attributes:
        accuracy: least accuracy on the test images, in the mean over the seeds.
        seconds: longest training on two cores.
        seeds: how often it is trained.
        published: accuracy that reports of others give, with pretrained weights at 224 px for the large networks.
    """

    accuracy: float
    seconds: int
    seeds: int = 1
    published: float | None = None


PROMISES = {
    "mlp": Promise(0.984, 30, seeds=3, published=0.9744),
    "cnn": Promise(0.9965, 180, seeds=3, published=0.9897),
    "vit": Promise(0.9940, 1200, published=0.9923),
    "alexnet": Promise(0.9960, 900, published=0.9960),
    "vgg16": Promise(0.9965, 1500, published=0.9921),
    "mobilenet_v2": Promise(0.9950, 900, published=0.9589),
    "faster_rcnn": Promise(0.985, 1800),
}
# The features of a MobileNetV2 trained on another data set, and only a classifier trained on this one.
FROZEN = "mobilenet_v2 frozen"
FEATURES_FROM = "digits"
ALL = {**PROMISES, FROZEN: Promise(0.97, 180, published=0.9589)}
MOST_STUDY_S = 6000


@click.command()
@click.option("--dataset", default="mnist", show_default=True, help="A data set's name, or a folder of IDX files.")
@click.option("--models", "chosen", default=",".join(ALL), help="Architectures, comma-separated.")
@click.option("--epochs", type=int, help="Passes over the training images, for a quick look; the recipe's by default.")
def main(dataset: str, chosen: str, epochs: int | None) -> None:
    """Print the table, and each promise that is broken."""
    cli.catch_signals()
    names = runs.split_names(chosen, ALL)
    images = data.load(dataset, default_root())
    rows, broken, study_s = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        write_mnist(images, Path(folder))
        for name in names:
            promise = ALL[name]
            trained = list(trainings(name, images, promise.seeds, epochs))
            accuracies = [run.data.metrics["test/accuracy"] for run in trained]
            seconds = mean(run.data.metrics["time/train_s"] for run in trained)
            study_s += trained[0].data.metrics["time/total_s"] if name in PROMISES else 0
            shown = int(trained[0].data.params["epochs"]) * (len(images.train) - data.default_val_size(images))
            architecture = name.split()[0]
            rates = plain_rates(architecture, Path(folder))
            next(rates)
            plain_s = shown / next(rates)
            deviation = f" ± {stdev(accuracies):.2%}" if len(accuracies) > 1 else ""
            rows.append(
                {
                    "architecture": name,
                    "seeds": len(trained),
                    "test accuracy": f"{mean(accuracies):.2%}{deviation}",
                    "promised": f"{promise.accuracy:.2%}",
                    "published": f"{promise.published:.2%}" if promise.published else "",
                    "training": f"{seconds:.0f} s",
                    "allowed": f"{promise.seconds} s",
                    "plain loop": f"{plain_s:,.0f} s",
                    "ratio": f"{plain_s / seconds:.1f}",
                }
            )
            if mean(accuracies) < promise.accuracy:
                broken.append(f"{name} reaches {mean(accuracies):.3%}, {promise.accuracy:.2%} are promised.")
            if seconds > promise.seconds:
                broken.append(f"{name} trains for {seconds:.0f} s, at most {promise.seconds} s are promised.")
    print(f"\nTest accuracy on the {len(images.test):,} test images of {images.name}, training time with validation;")
    print("plain loop: what benchmarks/reference.py would need for as many images, by its speed measured just now.\n")
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    if set(names) >= set(PROMISES):
        print(f"\nOne seed of all {len(PROMISES)} architectures takes {study_s / 60:.0f} minutes, tests included.")
        if study_s > MOST_STUDY_S:
            broken.append(f"At most {MOST_STUDY_S / 60:.0f} minutes are promised for one seed of all.")
    sys.exit("\n".join(broken) or 0)


def trainings(name: str, images: data.Dataset, seeds: int, epochs: int | None) -> Iterator[Run]:
    """The finished runs of each seed, trained now where there is none."""
    overrides = {"epochs": epochs} if epochs else {}
    source = "none"
    if name == FROZEN:
        features = runs.finished("mobilenet_v2", data.load(FEATURES_FROM, default_root()))
        source = f"models:/{FEATURES_FROM}-mobilenet_v2/{tracking.registered_version(features.info.run_id)}"
    for seed in range(seeds):
        yield runs.finished(name.split()[0], images, seed=seed, source=source, **overrides)


if __name__ == "__main__":
    cli.run(main, "benchmarks.accuracy")
