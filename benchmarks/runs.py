"""What the benchmarks share: their options, and the trainings they measure.

A training finished before is taken as it is, a cut one goes on.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from mlflow.entities import Run

from pipeline.cli.selection import send_all
from pipeline.config import TrainConfig, resolve
from pipeline.data import sources
from pipeline.data.images import Dataset
from pipeline.errors import InputError
from pipeline.files import default_root
from pipeline.registry.register import DELIVERIES
from pipeline.tracking import queries
from pipeline.tracking.client import current_experiment
from pipeline.tracking.sender import Sender
from pipeline.tracking.training_run import is_finished
from pipeline.training import continuation, weights
from pipeline.training.run import train

# The promises are about two cores, also on a machine that has a GPU.
DEVICE = "cpu"
SIZE, CLASSES = 28, 10
# How long a tracking server that is away is waited for.
WAIT_S = 600

dataset_option = click.option(
    "--dataset", default="mnist", show_default=True, help="MNIST or one like it, or a folder of such IDX files."
)
epochs_option = click.option(
    "--epochs",
    type=click.IntRange(1),
    help="Passes over the training images, for a quick look; the recipe's by default.",
)


def models_option(known: Iterable[str]) -> Callable:
    """The option that says which of these architectures are measured, all by default; its value is their names."""
    return click.option(
        "--models",
        "names",
        default=",".join(known),
        callback=lambda context, parameter, text: split_names(text, known),
        help="Architectures, comma-separated.",
    )


def rounds_option(default: int) -> Callable:
    """The option that says how often a time is measured."""
    return click.option(
        "--rounds", type=click.IntRange(1), default=default, show_default=True, help="How often each time is measured."
    )


def load(name: str) -> Dataset:
    """A data set of the form that everything here is measured on.

    Raises:
        InputError: there is none of this name, or its images or classes are not as MNIST's.
    """
    found = sources.load(name, default_root())
    size, classes = found.train.images.shape[1:], len(found.classes)
    if size != (SIZE, SIZE) or classes > CLASSES:
        raise InputError(
            f"{found.name} has {classes} classes of {size[1]} x {size[0]} px: the benchmarks are made for at most "
            f"{CLASSES} of {SIZE} x {SIZE} px."
        )
    return found


def split_names(text: str, known: Iterable[str]) -> list[str]:
    """The names in a comma-separated text.

    Raises:
        InputError: one is not known.
    """
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"There is nothing to measure of '{unknown[0]}': choose from {', '.join(known)}.")
    return names


def recorded(model: str, dataset: Dataset, *, seed: int = 0) -> Run | None:
    """The finished run of the architecture's recipe on a data set, None where it has not been trained."""
    config, _ = configured(model, dataset, seed=seed)
    return next(filter(is_finished, trainings(config)), None)


def finished(model: str, dataset: Dataset, **options: Any) -> Run:
    """The finished run of the architecture on a data set, trained now where it has not been; `configured` has the
    options.
    """
    config, start = configured(model, dataset, **options)
    run = next(filter(is_finished, trainings(config)), None)
    return run or queries.get_run(train_and_record(config, dataset, root=default_root(), start=start))


def train_and_record(
    config: TrainConfig, dataset: Dataset, *, root: Path, start: weights.InitialWeights = weights.FRESH
) -> str:
    """Id of the run of a training, made now unless it is finished."""
    place = continuation.find_place(root)
    with Sender(DELIVERIES) as sender:
        standing = continuation.find_training(config, place, sender, study=None)
        if standing.finished:
            send_all(sender, WAIT_S)
            return str(standing.run_id)
        _, journal = train(config, dataset, root=root, sender=sender, start=start, journal=standing.journal)
        send_all(sender, WAIT_S)
    return str(journal.run_id)


def trainings(config: TrainConfig) -> list[Run]:
    """The trainings of a config in the current experiment, newest first."""
    return queries.find_trainings(current_experiment(), config.key)


def configured(
    model: str,
    dataset: Dataset,
    *,
    seed: int = 0,
    source: str = "none",
    limit: int = 0,
    val_size: int | None = None,
    **overrides: Any,
) -> tuple[TrainConfig, weights.InitialWeights]:
    """The config of a training and the weights it starts from.

    Args:
        source: where the weights come from, as `--weights` takes it.
        limit, val_size: how many images train and validate, as the options of these names.
        overrides: recipe fields that differ.
    """
    start = weights.load(source, model, {}, classes=dataset.classes)
    config = resolve(
        model,
        dataset,
        weights=source,
        stored=start.stored,
        overrides=overrides,
        seed=seed,
        limit=limit,
        val_size=val_size,
        device=DEVICE,
    )
    return config, start


def use_only(store: str) -> None:
    """Let this process, and those it starts, use this throwaway store for everything."""
    for name in ("MLFLOW_REGISTRY_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_EXPERIMENT_ID", "MLFLOW_RUN_ID"):
        os.environ.pop(name, None)
    os.environ["MLFLOW_TRACKING_URI"] = store


def reached(accuracy: float, run: Run) -> tuple[int, float] | None:
    """Epochs and seconds, with validation, until a training was this good on the validation images; None if never."""
    seconds = 0.0
    history = queries.epoch_metrics(run.info.run_id, "val/accuracy", "time/epoch_s")
    for epoch, (found, took) in enumerate(history, start=1):
        seconds += took
        if found >= accuracy:
            return epoch, seconds
    return None
