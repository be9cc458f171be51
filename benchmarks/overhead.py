"""What the pipeline adds to the arithmetic: an epoch of a tracked training beside the bare steps over ready batches.

    python -m benchmarks.overhead --dataset mnist

The bare loop does forward, backward and optimizer step over batches that were cut, augmented and normalised beforehand.
The pipeline's epoch is the time from one epoch's record in the tracking server to the next one's: cutting, augmenting,
progress, checkpoint and tracking included, its validation subtracted.
Exit code 1 when more is added than promised.
"""

import sys
import tempfile
import time
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from statistics import median

import click
import numpy as np
import pandas as pd
import torch

from benchmarks import runs
from pipeline import config
from pipeline.cli.process import run
from pipeline.data.images import Dataset
from pipeline.data.splits import default_val_size, split
from pipeline.ending import catch_signals
from pipeline.tracking import queries
from pipeline.tracking.client import connect
from pipeline.training.engine import batches
from pipeline.training.engine.state import Training

MOST = {"mlp": 1.3}
MAX_OTHERS = 1.05
# Training images of an epoch. What an epoch costs once, the checkpoint above all, weighs more in a short one.
IMAGES = {
    "mlp": 55_000,
    "cnn": 55_000,
    "vit": 20_000,
    "alexnet": 20_000,
    "vgg16": 2_000,
    "mobilenet_v2": 10_000,
    "faster_rcnn": 5_000,
}
# The first warms up; the second's time is taken.
EPOCHS = 2


@click.command()
@runs.dataset_option
@runs.models_option(IMAGES)
@runs.rounds_option(3)
def main(dataset: str, names: list[str], rounds: int) -> None:
    """Print the table, and each promise that is broken."""
    catch_signals()
    images = runs.load(dataset)
    # The test has no part in an epoch.
    images = replace(images, test=images.test.subset(np.arange(min(100, len(images.test)))))
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        runs.use_only("sqlite:///mlflow.db")
        table = pd.DataFrame([measure(model, images, rounds) for model in names])
    print(f"\nMedian of {rounds} rounds in turn on {torch.get_num_threads()} threads; ratio, with its extremes: the")
    print("pipeline's epoch without its validation to the bare steps.\n")
    print(table.drop(columns="excess").to_markdown(index=False, disable_numparse=True))
    sys.exit("\n".join(table["excess"].dropna()) or 0)


def measure(model: str, images: Dataset, rounds: int) -> dict[str, str | None]:
    """One row, with a sentence under `excess` where more is added than promised."""
    limit = min(IMAGES[model], len(images.train) - default_val_size(images))
    resolved = config.resolve(
        model, images, weights="none", overrides={"epochs": EPOCHS}, limit=limit, device=runs.DEVICE
    )
    bare = BareLoop(resolved, images)
    times = []
    for _ in range(rounds + 1):
        steps = bare.epoch()
        run_id = runs.train_and_record(resolved, images, root=Path.cwd())
        times.append((steps, *epoch_seconds(run_id, limit)))
    # The first warms up.
    times = times[1:]
    ratios = [(whole - validation) / steps for steps, whole, validation in times]
    steps, whole, validation = (median(column) for column in zip(*times, strict=True))
    allowed = MOST.get(model, MAX_OTHERS)
    return {
        "architecture": model,
        "images": f"{limit:,}",
        "bare steps": f"{steps:.2f} s",
        "pipeline": f"{whole:.2f} s",
        "of it validation": f"{validation:.2f} s",
        "ratio": f"{median(ratios):.3f}",
        "lowest to highest": f"{min(ratios):.3f} to {max(ratios):.3f}",
        "allowed": f"{allowed:.2f}",
        "excess": f"{model}'s epochs take {median(ratios):.3f} times the bare steps."
        if median(ratios) > allowed
        else None,
    }


class BareLoop:
    """Forward, backward and step with the same network over the same last epoch's batches, ready in memory."""

    def __init__(self, resolved: config.TrainConfig, images: Dataset) -> None:
        self.training = Training(resolved, split(images, val_size=resolved.val_size, limit=resolved.limit))
        self.feed = batches.create_batches(self.training)
        for _ in range(EPOCHS):
            order = torch.randperm(len(self.training.train), generator=self.training.generator)
            self.batches = [self.feed.train(batch) for batch in order.tensor_split(self.training.steps)]

    def epoch(self) -> float:
        """Seconds of the steps."""
        training, forward = self.training, self.feed.forward
        parameters = list(training.model.parameters())
        training.model.train()
        torch.set_float32_matmul_precision("high")
        started = time.perf_counter()
        for inputs, targets in self.batches:
            with batches.autocast(training.config):
                loss = training.task.loss(forward, inputs, targets)["loss"]
            loss.backward()
            if training.config.clip_norm:
                torch.nn.utils.clip_grad_norm_(parameters, training.config.clip_norm)
            training.optimizer.step()
            training.optimizer.zero_grad()
        return time.perf_counter() - started


def epoch_seconds(run_id: str, images: int) -> tuple[float, float]:
    """Time from the record of the first epoch to that of the second, and how much of it was validation."""
    first, second = connect().get_metric_history(run_id, "val/loss")
    _, (seconds, rate) = queries.epoch_metrics(run_id, "time/epoch_s", "train/images_per_second")
    return (second.timestamp - first.timestamp) / 1000, seconds - images / rate


if __name__ == "__main__":
    run(main, "benchmarks.overhead")
