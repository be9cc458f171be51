"""What the pipeline adds to the arithmetic: an epoch of a tracked training beside the bare steps over ready batches.

    python -m benchmarks.overhead --dataset mnist

The bare loop does forward, backward and optimizer step over batches that were cut, augmented and normalised beforehand.
The pipeline's epoch is the time from one epoch's record in the tracking server to the next one's: cutting, augmenting,
progress, checkpoint and tracking included. It also holds a validation, whose forward passes are measured by themselves.
Exit code 1 when more is added than promised.
"""

import os
import sys
import tempfile
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from statistics import median

import click
import mlflow
import numpy as np
import pandas as pd
import torch

import models
from benchmarks import runs
from pipeline import cli, config, data, engine, tracking
from pipeline.files import default_root
from pipeline.training import train

MOST = {"mlp": 1.3}
MOST_OTHERS = 1.05
EPOCHS = 3


@click.command()
@click.option("--dataset", default="mnist", show_default=True, help="A data set's name, or a folder of IDX files.")
@click.option("--models", "chosen", default=",".join(models.names()), help="Architectures, comma-separated.")
@click.option("--limit", default=0, help="Train on so many images, to be quicker; 0: all.")
@click.option("--rounds", default=3, show_default=True, help="How often each time is measured.")
def main(dataset: str, chosen: str, limit: int, rounds: int) -> None:
    """Print the table, and each promise that is broken."""
    names = runs.split_names(chosen, models.names())
    images = data.load(dataset, default_root())
    # The test has no part in an epoch.
    images = replace(images, test=images.test.subset(np.arange(min(100, len(images.test)))))
    rows, broken = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
        mlflow.set_tracking_uri(os.environ["MLFLOW_TRACKING_URI"])
        mlflow.create_experiment("overhead", artifact_location=Path(folder, "artifacts").as_uri())
        os.environ["MLFLOW_EXPERIMENT_NAME"] = "overhead"
        mlflow.set_experiment("overhead")
        for model in names:
            resolved = config.resolve(model, images, weights="none", overrides={"epochs": EPOCHS}, limit=limit)
            bare = BareLoop(resolved, images)
            times = []
            for seed in range(rounds + 1):
                steps, validation = bare.epoch()
                run_id = train(replace(resolved, seed=seed), images, root=Path(folder)).run_id
                times.append((steps, validation, epoch_seconds(run_id)))
            steps, validation, pipeline = (median(column) for column in zip(*times[1:], strict=True))
            ratios = sorted((whole - check) / step for step, check, whole in times[1:])
            rows.append(
                {
                    "architecture": model,
                    "bare steps": f"{steps:.2f} s",
                    "validation": f"{validation:.2f} s",
                    "pipeline": f"{pipeline:.2f} s",
                    "ratio": f"{median(ratios):.3f}",
                    "lowest to highest": f"{ratios[0]:.3f} to {ratios[-1]:.3f}",
                    "allowed": f"{MOST.get(model, MOST_OTHERS):.2f}",
                }
            )
            if median(ratios) > MOST.get(model, MOST_OTHERS):
                broken.append(f"{model}'s epochs take {median(ratios):.3f} times the bare steps.")
    count = sum(len(targets) for _, targets in bare.batches)
    print(f"\nEpochs over {count:,} images, median of {rounds} rounds in turn on {torch.get_num_threads()} threads;")
    print("ratio: the pipeline without its validation to the bare steps.\n")
    print(pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True))
    sys.exit("\n".join(broken) or 0)


class BareLoop:
    """Forward, backward and step over batches that lie ready in memory, with the same network and optimizer."""

    def __init__(self, resolved: config.TrainConfig, images: data.Dataset) -> None:
        self.training = engine.Training(resolved, data.split(images, val_size=resolved.val_size, limit=resolved.limit))
        self.feed = engine.create_feed(self.training)
        order = torch.randperm(len(self.training.train))
        self.batches = [self.feed.train(batch) for batch in order.tensor_split(self.training.steps)]

    def epoch(self) -> tuple[float, float]:
        """Seconds of the steps, and of predicting the validation samples."""
        training, forward = self.training, self.feed.forward
        parameters = list(training.model.parameters())
        training.model.train()
        started = time.perf_counter()
        for inputs, targets in self.batches:
            with engine.autocast(training.config):
                loss = training.task.loss(forward, inputs, targets)["loss"]
            loss.backward()
            if training.config.clip_norm:
                torch.nn.utils.clip_grad_norm_(parameters, training.config.clip_norm)
            training.optimizer.step()
            training.optimizer.zero_grad()
        stepped = time.perf_counter()
        training.task.score(engine.predict(training, self.feed), training.samples)
        return stepped - started, time.perf_counter() - stepped


def epoch_seconds(run_id: str) -> float:
    """Time between the records of two epochs, the median over a training's epochs."""
    stamps = [metric.timestamp for metric in tracking.client().get_metric_history(run_id, "val/loss")]
    return median(after - before for before, after in pairwise(stamps)) / 1000


if __name__ == "__main__":
    cli.run(main, "benchmarks.overhead")
