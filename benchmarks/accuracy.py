"""Train every architecture from scratch as its recipe says, and hold accuracy and time against what is promised.

    python -m benchmarks.accuracy --dataset mnist

Each training is recorded as any other. Those finished before are taken as they are and one that was cut goes on, so
that the whole can be done in parts. Exit code 1 when a promise is not kept.
"""

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import mean, median, stdev

import click
import pandas as pd
from mlflow.entities import Run

from benchmarks import runs
from benchmarks.reference import plain_rates, write_mnist
from pipeline.cli.process import run
from pipeline.data import sources
from pipeline.data.images import Dataset
from pipeline.data.splits import default_val_size
from pipeline.ending import catch_signals
from pipeline.files import default_root
from pipeline.registry import versions


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
MAX_STUDY_S = 6000
# How often the plain loop's speed is measured, after a warm-up.
ROUNDS = 3


@dataclass(frozen=True)
class Measured:
    """What one architecture reaches.

    Attributes:
        accuracies: on the test images, of each seed.
        seconds: training with validation, the median over the seeds.
        total_s: the first seed from its start to the end of its test.
        plain_s: what the plain loop would need for as many images, by its speed measured just now; None where it does
            not do the same.
        date: day of the training.
    """

    name: str
    accuracies: list[float]
    seconds: float
    total_s: float
    plain_s: float | None
    date: str

    def row(self) -> dict[str, str]:
        """This architecture in the table."""
        promise = ALL[self.name]
        deviation = f" ± {stdev(self.accuracies):.2%}" if len(self.accuracies) > 1 else ""
        return {
            "architecture": self.name,
            "seeds": str(len(self.accuracies)),
            "test accuracy": f"{mean(self.accuracies):.2%}{deviation}",
            "promised": f"{promise.accuracy:.2%}",
            "published": f"{promise.published:.2%}" if promise.published else "",
            "training": f"{self.seconds:.0f} s",
            "allowed": f"{promise.seconds} s",
            "trained": self.date,
            "plain loop": f"{two_digits(self.plain_s)} s" if self.plain_s else "",
            "ratio": two_digits(self.plain_s / self.seconds) if self.plain_s else "",
        }

    def broken(self) -> Iterator[str]:
        """What it does not keep."""
        promise, accuracy = ALL[self.name], mean(self.accuracies)
        if accuracy < promise.accuracy:
            yield f"{self.name} reaches {accuracy:.3%}, {promise.accuracy:.2%} are promised."
        if self.seconds > promise.seconds:
            yield f"{self.name} trains for {self.seconds:.0f} s, at most {promise.seconds} s are promised."


@click.command()
@runs.dataset_option
@runs.models_option(ALL)
@runs.epochs_option
def main(dataset: str, names: list[str], epochs: int | None) -> None:
    """Print the table, and each promise that is broken."""
    catch_signals()
    images = runs.load(dataset)
    with tempfile.TemporaryDirectory() as folder:
        write_mnist(images, Path(folder))
        table = [measure(name, images, epochs, Path(folder)) for name in names]
    print(f"\nTest accuracy on the {len(images.test):,} test images of {images.name}, training time with validation;")
    print("plain loop: what benchmarks/reference.py would need for as many images, by its speed, the median of")
    print(f"{ROUNDS} rounds just now.\n")
    print(pd.DataFrame(measured.row() for measured in table).to_markdown(index=False, disable_numparse=True))
    broken = [reason for measured in table for reason in measured.broken()]
    if set(names) >= set(PROMISES):
        study_s = sum(measured.total_s for measured in table if measured.name in PROMISES)
        print(f"\nOne seed of all {len(PROMISES)} architectures takes {study_s / 60:.0f} minutes, tests included.")
        if study_s > MAX_STUDY_S:
            broken.append(f"At most {MAX_STUDY_S / 60:.0f} minutes are promised for one seed of all.")
    sys.exit("\n".join(broken) or 0)


def measure(name: str, images: Dataset, epochs: int | None, folder: Path) -> Measured:
    """Train an architecture where that has not been done, and measure the plain loop on the files in a folder."""
    trained = list(trainings(name, images, ALL[name].seeds, epochs))
    seconds = median(run.data.metrics["time/train_s"] for run in trained)
    plain_s = None
    if name != FROZEN:
        seen = int(trained[0].data.params["epochs"]) * (len(images.train) - default_val_size(images))
        _, *rates = islice(plain_rates(name, folder), 1 + ROUNDS)
        plain_s = seen / median(rates)
    return Measured(
        name=name,
        accuracies=[run.data.metrics["test/accuracy"] for run in trained],
        seconds=seconds,
        total_s=trained[0].data.metrics["time/total_s"],
        plain_s=plain_s,
        date=f"{datetime.fromtimestamp(trained[0].info.start_time / 1000, UTC):%Y-%m-%d}",
    )


def two_digits(value: float) -> str:
    """A value in its two leading digits, all that such a measurement is good for."""
    return f"{float(f'{value:.2g}'):,g}"


def trainings(name: str, images: Dataset, seeds: int, epochs: int | None) -> Iterator[Run]:
    """The finished runs of each seed, trained now where there is none."""
    overrides = {"epochs": epochs} if epochs else {}
    source = "none"
    if name == FROZEN:
        features = runs.finished("mobilenet_v2", sources.load(FEATURES_FROM, default_root()))
        source = versions.version_of(features.info.run_id, f"{FEATURES_FROM}-mobilenet_v2").uri
    for seed in range(seeds):
        yield runs.finished(name.split()[0], images, seed=seed, source=source, **overrides)


if __name__ == "__main__":
    run(main, "benchmarks.accuracy")
