"""Runs in MLflow: how they are opened, written and read. Registered models are in registry.py; no other module, but for
serve.py, which MLflow itself loads, imports mlflow.
"""

import functools
import getpass
import io
import json
import logging
import os
import platform
import re
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
import requests
from filelock import FileLock
from mlflow.entities import Metric, Param, Run, RunTag, ViewType
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline import protocol
from pipeline.config import TrainConfig
from pipeline.data.images import ImageSet
from pipeline.errors import InputError, Interrupted, PipelineError
from pipeline.names import short_hash

if TYPE_CHECKING:
    # Importing torch takes longer than comparing a thousand runs.
    from pipeline.engine import Epoch

# Tags, and the kinds of run they tell apart.
KIND, STUDY, TRAINING, PREPARATION, LAUNCH = "kind", "study", "training", "preparation", "launch"
EVALUATION = "evaluation"
STUDY_KEY, CONFIG_KEY, RECIPE_KEY = "study_key", "config_key", "recipe_key"
OWNER, FAILURE = "owner", "failure"
PARENT = "mlflow.parentRunId"

# MLflow's limit; the whole hash stands in a tag.
DIGEST_LENGTH = 36
LONGEST_TAG = 5000
PAGE = 1000


@functools.cache
def client() -> mlflow.MlflowClient:
    """The connection to the tracking server that MLFLOW_TRACKING_URI names, mlflow.db in this folder by default.

    Raises:
        PipelineError: it does not answer.
    """
    for chatty in ("alembic", "mlflow.store", "mlflow.system_metrics", "mlflow.pyfunc", "mlflow.utils.environment"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        connection = mlflow.MlflowClient()
        # Two processes that create the same SQLite file at once would get in each other's way.
        lock = f"mlflow-{getpass.getuser()}-{short_hash({'uri': mlflow.get_tracking_uri()})}.lock"
        with FileLock(Path(tempfile.gettempdir(), lock)):
            connection.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError, requests.RequestException, OSError) as error:
        place = f"The tracking server at {mlflow.get_tracking_uri()}"
        if "error code 401" in str(error):
            raise PipelineError(
                f"{place} asks for a name and a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            ) from error
        raise PipelineError(f"{place} does not answer: {str(error).splitlines()[0][:200]}") from error
    return connection


@functools.cache
def launcher_run() -> str | None:
    """The run that `mlflow run` made for this process, taken out of the environment so that it is used once."""
    return os.environ.pop("MLFLOW_RUN_ID", None)


def file_launcher_run(name: str, *, under: str) -> None:
    """Nest the launcher's run under the run that this process continues or reads, where it explains itself.

    It has nothing of its own to show, and deleting it would make the launcher fail when it ends it.
    """
    if run_id := launcher_run():
        tags = {KIND: LAUNCH, "mlflow.runName": name, PARENT: under}
        client().log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


@contextmanager
def run(
    name: str, *, tags: Mapping[str, str], run_id: str | None = None, system_metrics: bool = False
) -> Iterator[str]:
    """Open a run, nested under the open one if there is one, and end it with the status its block deserves.

    Args:
        run_id: a run to continue; a new one when absent.

    Yields:
        the run's id.
    """
    client()
    launcher_run()
    status = "FAILED"
    active = mlflow.start_run(run_id=run_id, nested=mlflow.active_run() is not None, log_system_metrics=system_metrics)
    try:
        run_id = active.info.run_id
        # MLflow would otherwise show its pages for language models.
        client().set_experiment_tag(active.info.experiment_id, "mlflow.experimentKind", "custom_model_development")
        ours = {
            "mlflow.runName": name,
            OWNER: owner(),
            "command": shlex.join(["python", "-m", "pipeline", *sys.argv[1:]]),
            **tags,
        }
        client().log_batch(run_id, tags=[RunTag(key, value) for key, value in ours.items()])
        yield run_id
        if FAILURE in client().get_run(run_id).data.tags:
            client().delete_tag(run_id, FAILURE)
        status = "FINISHED"
    except (Interrupted, KeyboardInterrupt):
        status = "KILLED"
        raise
    except BaseException as error:
        # What went wrong matters more than a server that cannot be told so.
        with suppress(Exception):
            client().set_tag(run_id, FAILURE, str(error)[:LONGEST_TAG] or type(error).__name__)
            if not isinstance(error, PipelineError):
                client().log_text(run_id, traceback.format_exc(), "traceback.txt")
        raise
    finally:
        mlflow.end_run(status)


def owner() -> str:
    """Who continues what: on a shared server nobody goes on with the runs of another user or machine."""
    return f"{getpass.getuser()}@{platform.node()}"


# --- Writing -------------------------------------------------------------------------------------------------------


def training_tags(
    config: TrainConfig, *, protocol_fields: Mapping[str, Any], budget: Mapping[str, Any]
) -> dict[str, str]:
    """What a training's run can be found and grouped by."""
    params = config.params()
    return {
        KIND: TRAINING,
        "dataset": config.dataset,
        "dataset_sha256": config.dataset_sha256,
        "architecture": config.model,
        "task": config.task,
        "device": config.device,
        "torch": version("torch"),
        "torchvision": version("torchvision"),
        CONFIG_KEY: config.key,
        RECIPE_KEY: short_hash({name: value for name, value in params.items() if name != "seed"}),
        "protocol": protocol.fingerprint(protocol_fields),
        "protocol_fields": json.dumps(protocol_fields),
        "budget": json.dumps(budget),
    }


def log_params(run_id: str, params: Mapping[str, str]) -> None:
    """Log params; where the launcher has already logged one in the user's words, ours is called NAME_used."""
    logged = client().get_run(run_id).data.params
    ours = {name if logged.get(name, value) == value else f"{name}_used": value for name, value in params.items()}
    client().log_batch(run_id, params=[Param(name, value) for name, value in ours.items() if name not in logged])


def log_images(images: ImageSet, name: str, *, context: str) -> None:
    """Record in the open run which images it used, with the hash of their content."""
    entry = mlflow.data.from_numpy(
        images.images, targets=images.targets, name=name, digest=images.sha256[:DIGEST_LENGTH]
    )
    mlflow.log_input(entry, context=context, tags={"sha256": images.sha256})


def log_epochs(run_id: str, epochs: Sequence["Epoch"]) -> None:
    """Log all metrics of these epochs and their time, one request for up to a thousand."""
    metrics = [
        Metric(name, value, now_ms(), epoch.index)
        for epoch in epochs
        for name, value in {**epoch.metrics, "time/epoch_s": epoch.seconds}.items()
    ]
    for start in range(0, len(metrics), PAGE):
        client().log_batch(run_id, metrics=metrics[start : start + PAGE])


def log_results(
    run_id: str, metrics: Mapping[str, float], series: Mapping[str, Mapping[int, float]] | None = None
) -> None:
    """Log final metrics in one request, all at step 0: MLflow draws them as bars, run beside run; series at theirs."""
    values = {name: {0: value} for name, value in metrics.items()} | (series or {})
    points = [Metric(name, value, now_ms(), step) for name, curve in values.items() for step, value in curve.items()]
    client().log_batch(run_id, metrics=points)


def now_ms() -> int:
    """MLflow's time stamps are milliseconds."""
    return int(time.time() * 1000)


def mark_failed(run_id: str, reason: str) -> None:
    """Give an ended run the status FAILED and say why in a tag."""
    client().set_tag(run_id, FAILURE, reason[:LONGEST_TAG])
    client().set_terminated(run_id, "FAILED")


def logged_epochs(run_id: str) -> set[int]:
    """The epochs whose metrics the server has."""
    return {metric.step for metric in client().get_metric_history(run_id, "val/loss")}


# --- Reading -------------------------------------------------------------------------------------------------------


def current_experiment() -> str:
    """Id of the experiment new runs go to."""
    if run_id := launcher_run():
        return experiment_of(run_id)
    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return experiment_named(name, create=True)
    return os.environ.get("MLFLOW_EXPERIMENT_ID", "0")


def experiment_named(name: str, *, create: bool = False) -> str:
    """Id of an experiment.

    Raises:
        InputError: there is none and `create` is false.
    """
    if found := client().get_experiment_by_name(name):
        return found.experiment_id
    if create:
        return client().create_experiment(name)
    known = ", ".join(experiment.name for experiment in client().search_experiments())
    raise InputError(f"There is no experiment '{name}' at {mlflow.get_tracking_uri()}: choose one of {known}.")


def experiment_of(run_id: str) -> str:
    """Id of the experiment a run belongs to."""
    return client().get_run(run_id).info.experiment_id


def find_runs(experiment: str, filter_string: str, *, most: int | None = None) -> list[Run]:
    """Runs of an experiment that are not deleted, newest first.

    Raises:
        InputError: MLflow does not understand the filter.
    """
    found: list[Run] = []
    token = None
    while True:
        try:
            page = client().search_runs(
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


def trainings(experiment: str, filter_string: str = "", *, since_ms: int = 0) -> pd.DataFrame:
    """One row a training, newest first: run_id, name, status, artifact_uri, tags, params and last metrics.

    Args:
        since_ms: only those that started then or later.
    """
    wanted = [f"tags.{KIND} = '{TRAINING}'", *([filter_string] if filter_string else [])]
    if since_ms:
        wanted.append(f"attributes.start_time >= {since_ms}")
    return pd.DataFrame([row(found) for found in find_runs(experiment, " and ".join(wanted))])


def row(found: Run) -> dict[str, Any]:
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
        "tracking_uri": mlflow.get_tracking_uri(),
    }


def training(run_id: str) -> dict[str, Any]:
    """One training, as a row of `trainings`.

    Raises:
        InputError: there is no such run.
    """
    return row(get_run(run_id))


def trainings_of(study_id: str, filter_string: str = "", *, since_ms: int = 0) -> pd.DataFrame:
    """The trainings of a study, as `trainings` gives them."""
    within = f"tags.`{PARENT}` = '{study_id}'" + (f" and {filter_string}" if filter_string else "")
    return trainings(experiment_of(study_id), within, since_ms=since_ms)


def read_answers(training: Mapping[str, Any]) -> pd.DataFrame | None:
    """What a training answered to the test images, as `metrics.predictions_table` wrote it; None where it is gone."""
    content = read_artifact(training, "predictions.csv")
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
    before = mlflow.get_tracking_uri()
    with tempfile.TemporaryDirectory() as temporary:
        if not remote:
            # MLflow would bring an older database up to date where it lies.
            shutil.copy(database, temporary)
        mlflow.set_tracking_uri(place if remote else f"sqlite:///{temporary}/mlflow.db")
        client.cache_clear()
        try:
            experiments = client().search_experiments()
            found = [trainings(entry.experiment_id, filter_string, since_ms=since_ms) for entry in experiments]
        finally:
            mlflow.set_tracking_uri(before)
            client.cache_clear()
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
    return {metric.step: metric.value for metric in client().get_metric_history(run_id, name)}


def get_run(run_id: str) -> Run:
    """A run by its id.

    Raises:
        InputError: there is none.
    """
    try:
        return client().get_run(run_id)
    except MlflowException as error:
        raise InputError(f"There is no run '{run_id}' at {mlflow.get_tracking_uri()}.") from error


def log_artifacts(run_id: str, folder: Path, name: str | None = None) -> None:
    """Copy a folder's content to a run."""
    client().log_artifacts(run_id, str(folder), name)


def where_to_look(run_id: str) -> str:
    """How to see a run in the browser."""
    uri = mlflow.get_tracking_uri()
    experiment = experiment_of(run_id)
    if uri.startswith(("http://", "https://")):
        return f"{uri}/#/experiments/{experiment}/runs/{run_id}"
    return f"mlflow ui --backend-store-uri {uri}, then http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run_id}"
