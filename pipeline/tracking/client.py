"""The tracking server: connecting to it, and where new runs go."""

import functools
import getpass
import logging
import os
import platform
import tempfile
from pathlib import Path

import mlflow
import requests
from filelock import FileLock
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import InputError, PipelineError
from pipeline.names import short_hash


@functools.cache
def connect() -> mlflow.MlflowClient:
    """The connection to the tracking server that MLFLOW_TRACKING_URI names, mlflow.db in this folder by default.

    Raises:
        PipelineError: it does not answer.
    """
    return open_client(mlflow.get_tracking_uri())


def open_client(uri: str) -> mlflow.MlflowClient:
    """A connection to the tracking server at an address, whichever the environment names.

    Raises:
        PipelineError: it does not answer.
    """
    for chatty in ("alembic", "mlflow.store", "mlflow.system_metrics", "mlflow.pyfunc", "mlflow.utils.environment"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    try:
        connection = mlflow.MlflowClient(uri)
        # Two processes that create the same SQLite file at once would get in each other's way.
        lock = f"mlflow-{getpass.getuser()}-{short_hash({'uri': uri})}.lock"
        with FileLock(Path(tempfile.gettempdir(), lock)):
            connection.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError, requests.RequestException, OSError) as error:
        place = f"The tracking server at {uri}"
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


def owner() -> str:
    """Who continues what: on a shared server nobody goes on with the runs of another user or machine."""
    return f"{getpass.getuser()}@{platform.node()}"


def tracking_uri() -> str:
    """The tracking server's address, the same from whichever folder it is used later."""
    uri = mlflow.get_tracking_uri()
    file = uri.removeprefix("sqlite:///")
    return f"sqlite:///{Path(file).resolve()}" if uri.startswith("sqlite:///") and file else uri


def is_away(error: BaseException) -> bool:
    """Whether waiting may mend it."""
    return isinstance(error, (requests.RequestException, MlflowException, PipelineError))


def chosen_experiment() -> dict[str, str]:
    """How the experiment that new runs go to was chosen: by the launcher's run, a name, or an id."""
    if run_id := launcher_run():
        return {"run_id": run_id}
    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return {"name": name}
    return {"id": os.environ.get("MLFLOW_EXPERIMENT_ID", "0")}


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
    if found := connect().get_experiment_by_name(name):
        return found.experiment_id
    if create:
        return connect().create_experiment(name)
    known = ", ".join(experiment.name for experiment in connect().search_experiments())
    raise InputError(f"There is no experiment '{name}' at {mlflow.get_tracking_uri()}: choose one of {known}.")


def experiment_of(run_id: str) -> str:
    """Id of the experiment a run belongs to."""
    return connect().get_run(run_id).info.experiment_id


def run_url(run_id: str) -> str:
    """How to see a run in the browser."""
    uri = mlflow.get_tracking_uri()
    experiment = experiment_of(run_id)
    if uri.startswith(("http://", "https://")):
        return f"{uri}/#/experiments/{experiment}/runs/{run_id}"
    return f"mlflow ui --backend-store-uri {uri}, then http://127.0.0.1:5000/#/experiments/{experiment}/runs/{run_id}"
