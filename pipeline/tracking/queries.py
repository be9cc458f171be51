"""Reading runs: studies, trainings and what they logged."""

import io
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlflow
import pandas as pd
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError
from pipeline.tracking.client import connect, experiment_of, open_client, owner
from pipeline.tracking.schema import CONFIG_KEY, KIND, OWNER, PAGE, PARENT, PREDICTIONS, STUDY, STUDY_KEY, TRAINING


def find_runs(
    experiment: str, filter_string: str, *, most: int | None = None, client: mlflow.MlflowClient | None = None
) -> list[Run]:
    """Runs of an experiment that are not deleted, newest first, at another server where a client of it is given.

    Raises:
        InputError: MLflow does not understand the filter.
    """
    found: list[Run] = []
    token = None
    while True:
        try:
            page = (client or connect()).search_runs(
                [experiment], filter_string, ViewType.ACTIVE_ONLY, max_results=min(most or PAGE, PAGE), page_token=token
            )
        except MlflowException as error:
            raise InputError(f'The filter "{filter_string}" cannot be used: {error.message.splitlines()[0]}') from error
        found += page
        token = page.token
        if not token or (most and len(found) >= most):
            return found


def find_study(experiment: str, key: str | None = None) -> Run | None:
    """The newest study of anyone, or of this owner the newest with this key."""
    own = f" and tags.{STUDY_KEY} = '{key}' and tags.{OWNER} = '{owner()}'" if key else ""
    return next(iter(find_runs(experiment, f"tags.{KIND} = '{STUDY}'{own}", most=1)), None)


def find_trainings(experiment: str, config_key: str, *, parent: str | None = None) -> list[Run]:
    """This owner's trainings of exactly this config, newest first; of one study where `parent` is given."""
    within = f" and tags.`{PARENT}` = '{parent}'" if parent else ""
    return find_runs(experiment, f"tags.{CONFIG_KEY} = '{config_key}' and tags.{OWNER} = '{owner()}'{within}")


def is_finished(found: Run) -> bool:
    """Whether the run has its results."""
    return found.info.status == "FINISHED" and "test/accuracy" in found.data.metrics


def epoch_metrics(run_id: str, *names: str) -> list[tuple[float, ...]]:
    """The values of these metrics, epoch by epoch."""
    histories = [series(run_id, name) for name in names]
    return [tuple(history[step] for history in histories) for step in sorted(histories[0])]


def trainings(
    experiment: str, filter_string: str = "", *, since_ms: int = 0, client: mlflow.MlflowClient | None = None
) -> pd.DataFrame:
    """One row a training, newest first: run_id, name, status, artifact_uri, tags, params and last metrics.

    Args:
        since_ms: only those that started then or later.
        client: of the server that is asked, the configured one by default.
    """
    client = client or connect()
    wanted = [f"tags.{KIND} = '{TRAINING}'", *([filter_string] if filter_string else [])]
    if since_ms:
        wanted.append(f"attributes.start_time >= {since_ms}")
    found = find_runs(experiment, " and ".join(wanted), client=client)
    return pd.DataFrame([row(run, tracking_uri=client.tracking_uri) for run in found])


def row(found: Run, *, tracking_uri: str) -> dict[str, Any]:
    """A training as one row."""
    return {
        **found.data.tags,
        **{f"params.{name}": value for name, value in found.data.params.items()},
        **found.data.metrics,
        # Last, so that no tag can take their place.
        "run_id": found.info.run_id,
        "name": found.info.run_name,
        # One that lacks its results is not finished, whatever its status says.
        "status": found.info.status if found.info.status != "FINISHED" or is_finished(found) else "FAILED",
        "artifact_uri": found.info.artifact_uri,
        "tracking_uri": tracking_uri,
    }


def training(run_id: str) -> dict[str, Any]:
    """One training, as a row of `trainings`.

    Raises:
        InputError: there is no such run.
    """
    return row(get_run(run_id), tracking_uri=connect().tracking_uri)


def trainings_of(study_id: str, filter_string: str = "", *, since_ms: int = 0) -> pd.DataFrame:
    """The trainings of a study, as `trainings` gives them."""
    within = f"tags.`{PARENT}` = '{study_id}'" + (f" and {filter_string}" if filter_string else "")
    return trainings(experiment_of(study_id), within, since_ms=since_ms)


def read_predictions(training: Mapping[str, Any]) -> pd.DataFrame | None:
    """What a training answered to the test images, as `predictions_table` wrote it; None where it is gone."""
    content = read_artifact(training, PREDICTIONS)
    if content is None:
        return None
    try:
        table = pd.read_csv(io.BytesIO(content), dtype={"target": str, "prediction": str})
    except ValueError:
        return None
    return table if {"target", "prediction"} <= set(table.columns) else None


def read_artifact(training: Mapping[str, Any], name: str) -> bytes | None:
    """The content of one of a training's artifacts; None where there is none or it cannot be had."""
    uri = f"{training['artifact_uri']}/{name}"
    allowed = training.get("only_within")
    if isinstance(allowed, str) and not Path(uri).resolve().is_relative_to(allowed):
        return None
    try:
        with tempfile.TemporaryDirectory() as folder:
            path = mlflow.artifacts.download_artifacts(uri, dst_path=folder, tracking_uri=training["tracking_uri"])
            return Path(path).read_bytes()
    except (MlflowException, ImportError, OSError):
        return None


def trainings_elsewhere(place: str, filter_string: str = "", *, since_ms: int = 0) -> pd.DataFrame:
    """The trainings of another store, as `trainings` gives them, with its name in the column store.

    Args:
        place: a folder with an mlflow.db, from which nothing outside it is read, or a tracking URI.

    Raises:
        InputError: there is no such store, or no training in it.
        PipelineError: it does not answer.
    """
    folder = Path(place).expanduser()
    database = folder / "mlflow.db"
    remote = "://" in place
    if not remote and not database.is_file():
        raise InputError(f"There is no mlflow.db in '{place}': give a folder that has one, or a tracking URI.")
    with tempfile.TemporaryDirectory() as temporary:
        if not remote:
            # MLflow would bring an older database up to date where it lies.
            shutil.copy(database, temporary)
        client = open_client(place if remote else f"sqlite:///{temporary}/mlflow.db")
        experiments = client.search_experiments()
        found = [
            trainings(entry.experiment_id, filter_string, since_ms=since_ms, client=client) for entry in experiments
        ]
    table = pd.concat(found, ignore_index=True)
    if table.empty:
        raise InputError(f"There is no training of this kind at {place}.")
    if remote:
        return table.assign(store=re.sub(r"^.*://(.*@)?", "", place))
    # Wherever the runs were made, their files are looked for where the folder is now, and nowhere else.
    folder = folder.resolve()
    uris = [str(folder / Path("mlruns", *Path(uri).parts[-3:])) for uri in table["artifact_uri"]]
    return table.assign(store=folder.name, artifact_uri=uris, only_within=str(folder / "mlruns"))


def series(run_id: str, name: str) -> dict[int, float]:
    """A metric's values by step."""
    return {metric.step: metric.value for metric in connect().get_metric_history(run_id, name)}


def get_run(run_id: str) -> Run:
    """A run by its id.

    Raises:
        InputError: there is none.
    """
    try:
        return connect().get_run(run_id)
    except MlflowException as error:
        raise InputError(f"There is no run '{run_id}' at {mlflow.get_tracking_uri()}.") from error
