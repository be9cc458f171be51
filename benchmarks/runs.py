"""Trainings that the benchmarks measure: those finished before are taken as they are, a cut one goes on."""

from collections.abc import Iterable, Mapping
from typing import Any

from mlflow.entities import Run
from torch import Tensor

from pipeline import tracking, weights
from pipeline.config import TrainConfig, resolve
from pipeline.data import Dataset
from pipeline.errors import InputError
from pipeline.files import default_root
from pipeline.training import resumable, train


def split_names(text: str, known: Iterable[str]) -> list[str]:
    """The names in a comma-separated text.

    Raises:
        InputError: one is not known.
    """
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in known]:
        raise InputError(f"There is nothing to measure of '{unknown[0]}': choose from {', '.join(known)}.")
    return names


def recorded(model: str, dataset: Dataset, **settings: Any) -> Run | None:
    """The finished run of the architecture's recipe on a data set, None where it has not been trained.

    Args:
        settings: `seed` and `source`, as `finished` takes them, and recipe fields that differ.
    """
    config, _ = configured(model, dataset, **settings)
    found = tracking.find_trainings(tracking.current_experiment(), config.key)
    return next((run for run in found if tracking.is_finished(run)), None)


def finished(model: str, dataset: Dataset, *, seed: int = 0, source: str = "none", **overrides: Any) -> Run:
    """The same, trained now where it has not been.

    Args:
        source: where the weights come from, as `--weights` takes it.
        overrides: recipe fields that differ.
    """
    run = recorded(model, dataset, seed=seed, source=source, **overrides)
    if run is None:
        config, state = configured(model, dataset, seed=seed, source=source, **overrides)
        cut = resumable(tracking.find_trainings(tracking.current_experiment(), config.key), default_root())
        run = tracking.get_run(train(config, dataset, root=default_root(), state=state, run_id=cut).run_id)
    return run


def configured(
    model: str, dataset: Dataset, *, seed: int = 0, source: str = "none", **overrides: Any
) -> tuple[TrainConfig, Mapping[str, Tensor] | None]:
    """The config of such a training and the weights it starts from."""
    state, stored = weights.load(source, model, {})
    return resolve(model, dataset, weights=source, stored=stored, overrides=overrides, seed=seed), state


def reached(accuracy: float, run: Run) -> tuple[int, float] | None:
    """Epochs and seconds, with validation, until a training was this good on the validation images; None if never."""
    seconds = 0.0
    history = tracking.epoch_metrics(run.info.run_id, "val/accuracy", "time/epoch_s")
    for epoch, (found, took) in enumerate(history, start=1):
        seconds += took
        if found >= accuracy:
            return epoch, seconds
    return None
