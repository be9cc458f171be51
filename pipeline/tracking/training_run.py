"""A training as the tracking server has it, and what it left there."""

import io
import math
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.tracking.client import connect
from pipeline.tracking.schema import CONFIG_KEY, MACHINE, PREDICTIONS


@dataclass(frozen=True)
class TrainingRun:
    """The run of one training.

    Attributes:
        status: RUNNING, KILLED, FAILED or FINISHED; without its results it is not finished, whatever MLflow says.
        metrics: the last value of each.
        store: the name of another store that it comes from, empty for one's own.
        only_within: the folder that nothing outside of is read for it, empty for anywhere.
    """

    run_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    artifact_uri: str = ""
    tracking_uri: str = ""
    store: str = ""
    only_within: str = ""

    @classmethod
    def of(cls, run: Run, *, tracking_uri: str) -> "TrainingRun":
        """From MLflow's."""
        status = run.info.status if run.info.status != "FINISHED" or is_finished(run) else "FAILED"
        data = run.data
        return cls(
            run.info.run_id,
            run.info.run_name,
            status,
            data.tags,
            data.params,
            data.metrics,
            run.info.artifact_uri,
            tracking_uri,
        )

    @property
    def identity(self) -> tuple[str, str]:
        """What a training repeated with the same config has in common with the first."""
        return self.store, self.tags.get(CONFIG_KEY, self.run_id)

    def metric(self, logged: str) -> float:
        """The last value under this name, NaN without one."""
        return self.metrics.get(logged, math.nan)

    def has(self, logged: str) -> bool:
        """Whether there is a value under this name."""
        return not math.isnan(self.metric(logged))


def machines(trainings: Iterable[TrainingRun]) -> list[str]:
    """What these trainings ran on, each once."""
    return sorted({training.tags[MACHINE] for training in trainings if MACHINE in training.tags})


def is_finished(run: Run) -> bool:
    """Whether a training has its results."""
    return run.info.status == "FINISHED" and "test/accuracy" in run.data.metrics


def series(run_id: str, name: str) -> dict[int, float]:
    """A metric's values by step."""
    return {metric.step: metric.value for metric in connect().get_metric_history(run_id, name)}


class Results:
    """What trainings left in their stores, each part read once."""

    def __init__(self) -> None:
        self._predictions: dict[tuple[str, str, str], pd.DataFrame | None] = {}

    def predictions(self, training: TrainingRun, name: str = PREDICTIONS) -> pd.DataFrame | None:
        """What it answered to the test images, as `predictions_table` wrote it; None where that is gone.

        Args:
            name: of the artifact; that of the validation images has another.
        """
        place = (training.store, training.run_id, name)
        if place not in self._predictions:
            self._predictions[place] = self.read_predictions(training, name)
        return self._predictions[place]

    def read_predictions(self, training: TrainingRun, name: str) -> pd.DataFrame | None:
        """The same from the store."""
        content = self.artifact(training, name)
        if content is None:
            return None
        try:
            table = pd.read_csv(io.BytesIO(content), dtype={"target": str, "prediction": str})
        except ValueError:
            return None
        return table if {"target", "prediction"} <= set(table.columns) else None

    def artifact(self, training: TrainingRun, name: str) -> bytes | None:
        """The content of one of its artifacts; None where there is none or it cannot be had."""
        uri = f"{training.artifact_uri}/{name}"
        if training.only_within and not Path(uri).resolve().is_relative_to(training.only_within):
            return None
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=training.tracking_uri)
                return Path(path).read_bytes()
        except (MlflowException, ImportError, OSError):
            return None

    def series(self, training: TrainingRun, name: str) -> dict[int, float]:
        """A metric's values by step."""
        return series(training.run_id, name)
