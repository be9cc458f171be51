"""Speed, memory and time to the published accuracy, beside the plain loop of benchmarks/reference.py.

    python -m benchmarks.speed --dataset mnist

Pipeline and plain loop work in turn, A B A B, after a warm-up, each in a process of its own that sleeps while the other
works. How long the pipeline needs for an accuracy is read from the trainings of benchmarks/accuracy.py.
"""

import resource
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import click
import pandas as pd
import torch

from benchmarks import reference, runs
from benchmarks.accuracy import PROMISES
from pipeline import config
from pipeline.cli.process import run
from pipeline.data.images import Dataset
from pipeline.data.splits import default_val_size, split
from pipeline.ending import catch_signals
from pipeline.training.engine.loop import fit
from pipeline.training.engine.state import Training

# Training images of one epoch of the pipeline; a round is as many epochs as the plain loop's rounds last.
IMAGES = {
    "mlp": 30_000,
    "cnn": 10_000,
    "vit": 5_000,
    "alexnet": 5_000,
    "vgg16": 1_000,
    "mobilenet_v2": 2_000,
    "faster_rcnn": 2_000,
}
# Small enough to be trained by the plain loop until they are as good as published.
TRAINED_PLAINLY = {"mlp": 20, "cnn": 10}


@click.command()
@runs.dataset_option
@runs.models_option(IMAGES)
@runs.rounds_option(3)
def main(dataset: str, names: list[str], rounds: int) -> None:
    """Print both tables."""
    catch_signals()
    images = runs.load(dataset)
    speeds, times = [], []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        reference.write_mnist(images, folder)
        for model in names:
            click.echo(f"measuring {model}", err=True)
            ours, plain = in_turn(model, dataset, folder, rounds)
            ratios = [a / b for a, b in zip(ours["rates"], plain["rates"], strict=True)]
            speeds.append(
                {
                    "architecture": model,
                    "pipeline, images/s": f"{median(ours['rates']):,.0f}",
                    "plain, images/s": f"{median(plain['rates']):,.1f}",
                    "ratio": f"{median(ratios):.1f}",
                    "lowest to highest": f"{min(ratios):.1f} to {max(ratios):.1f}",
                    "pipeline, peak GB": f"{ours['peak']:.1f}",
                    "plain, peak GB": f"{plain['peak']:.1f}",
                }
            )
            if PROMISES[model].published:
                times.append(time_to_published(model, images, folder, median(plain["rates"])))
    machine = f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}"
    print(f"\nTraining steps of {rounds} rounds in turn, {machine}; ratio of images a second with its extremes.\n")
    print(pd.DataFrame(speeds).to_markdown(index=False, disable_numparse=True))
    print("\nSeconds of training until the published accuracy is reached on the validation images.\n")
    print(pd.DataFrame(times).to_markdown(index=False, disable_numparse=True))
    print("\n?: benchmarks/accuracy.py has not trained it to that accuracy. (estimate): not trained; as many images as")
    print("the pipeline needed, at the plain loop's measured speed.")


def in_turn(model: str, dataset: str, folder: Path, rounds: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Of the pipeline and the plain loop: images a second in each round after the warm-up, peak memory in GB."""
    context = get_context("spawn")
    with (
        ProcessPoolExecutor(1, context, initializer=start, initargs=(pipeline_rates, model, dataset)) as first,
        ProcessPoolExecutor(1, context, initializer=start, initargs=(reference.plain_rates, model, folder)) as second,
    ):
        measured = [[worker.submit(measure).result() for worker in (first, second)] for _ in range(rounds + 1)]
        peaks = [worker.submit(peak_gigabytes).result() for worker in (first, second)]
    ours, plain = ({"rates": [both[side] for both in measured[1:]], "peak": peaks[side]} for side in range(2))
    return ours, plain


def start(rates: Any, *arguments: Any) -> None:
    """Prepare a worker process."""
    global _rates
    _rates = rates(*arguments)


def measure() -> float:
    """One round in a worker process: images a second."""
    return next(_rates)


def peak_gigabytes() -> float:
    """The most memory this worker process has held, its libraries included."""
    status = Path("/proc/self/status")
    if status.exists():
        # What getrusage says on Linux includes the process that started this one.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e9
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def pipeline_rates(model: str, dataset: str) -> Iterator[float]:
    """Images a second of the pipeline's own loop, each measured over at least one epoch and a few seconds."""
    images = runs.load(dataset)
    limit = min(IMAGES[model], len(images.train) // 2)
    resolved = config.resolve(
        model, images, weights="none", overrides={"epochs": 10_000}, limit=limit, val_size=100, device=runs.DEVICE
    )
    training = Training(resolved, split(images, val_size=resolved.val_size, limit=limit))
    seen, seconds = 0, 0.0
    for epoch in fit(training):
        seen += limit
        seconds += limit / epoch.metrics["train/images_per_second"]
        if seconds > reference.ROUND_SECONDS:
            yield seen / seconds
            seen, seconds = 0, 0.0


def time_to_published(model: str, images: Dataset, folder: Path, plain_rate: float) -> dict[str, str]:
    """One row: seconds until the accuracy that others have published, in the pipeline and in the plain loop."""
    published = PROMISES[model].published
    run = runs.recorded(model, images)
    epochs, seconds = (run and runs.reached(published, run)) or (0, 0)
    row = {"architecture": model, "published": f"{published:.2%}", "pipeline": f"{seconds:.0f} s" if seconds else "?"}
    if model in TRAINED_PLAINLY:
        reached = (s for accuracy, s in reference.train(model, folder, TRAINED_PLAINLY[model]) if accuracy >= published)
        row["plain loop"] = next((f"{s:.0f} s" for s in reached), f"not in {TRAINED_PLAINLY[model]} epochs")
    else:
        count = epochs * (len(images.train) - default_val_size(images))
        row["plain loop"] = f"{count / plain_rate:,.0f} s (estimate)" if count else "?"
    return row


if __name__ == "__main__":
    run(main, "benchmarks.speed")
