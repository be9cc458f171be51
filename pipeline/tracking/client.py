"""The tracking server: connecting to it, and where new runs go."""

import functools
import getpass
import logging
import os
import platform
import re
import sqlite3
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import mlflow
import requests
from filelock import FileLock
from mlflow.entities import Experiment
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_TIMEOUT
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from pipeline.errors import InputError, PipelineError, causes, first_line, reason
from pipeline.names import short_hash
from pipeline.tracking.database import check_database, is_half_made, make_database, sqlite_file
from pipeline.tracking.failures import ServerAway, http_status, is_away


@functools.cache
def connect() -> mlflow.MlflowClient:
    """The connection to the tracking server that MLFLOW_TRACKING_URI names, mlflow.db in this folder by default.

    Raises:
        ServerAway: it does not answer now.
        PipelineError: it cannot be used.
    """
    return open_client(mlflow.get_tracking_uri(), upgrade=False)


def open_client(uri: str, *, upgrade: bool = True) -> mlflow.MlflowClient:
    """A connection to the tracking server at an address, whichever the environment names.

    Args:
        upgrade: whether MLflow may bring an older database up to date, as it does unasked.

    Raises:
        ServerAway: it does not answer now.
        PipelineError: it cannot be used.
    """
    for chatty in ("alembic", "mlflow.store", "mlflow.system_metrics", "mlflow.pyfunc", "mlflow.utils.environment"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    # What it logs it raises, too.
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        with alone(uri):
            greet(uri)
            check_database(uri, upgrade=upgrade)
            make_database(uri)
            connection = mlflow.MlflowClient(uri)
            connection.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, sqlite3.Error, ImportError, ValueError, OSError) as error:
        raise unusable(uri, error) from error
    return connection


def greet(uri: str) -> None:
    """Ask a server over HTTP once, with the patience of one request: MLflow asks a silent one eight times.

    Raises:
        requests.Timeout: it takes the connection and says nothing. Whatever else is wrong MLflow finds out, too.
    """
    if uri.startswith(("http://", "https://")):
        try:
            requests.get(f"{uri}/health", timeout=MLFLOW_HTTP_REQUEST_TIMEOUT.get())
        except requests.Timeout:
            raise
        except requests.RequestException:
            pass


def alone(uri: str) -> AbstractContextManager[object]:
    """Let one process of this user at a time make a database: two would get in each other's way."""
    if not (file := sqlite_file(uri)):
        return nullcontext()
    name = short_hash({"file": str(file.absolute()), "user": getpass.getuser()})
    return FileLock(Path(tempfile.gettempdir(), f"mlflow-{name}.lock"))


def unusable(uri: str, error: BaseException) -> PipelineError:
    """What to say of a tracking server whose first answer was an error."""
    # A database's address may hold a password.
    place = f"The tracking server at {re.sub('//[^/]*@', '//', uri)}"
    *_, first = (cause for cause in causes(error) if not isinstance(cause, KeyError))
    why = (getattr(first, "strerror", None) or first_line(first))[:200]
    if is_away(error):
        return ServerAway(f"{place} does not answer: {why}.")
    if "migrate-filestore" in str(error):
        return PipelineError(
            f"{uri} holds the runs of an earlier MLflow, as files: mlflow migrate-filestore --source mlruns --target "
            "sqlite:///mlflow.db makes a database of them, or set MLFLOW_TRACKING_URI=sqlite:///mlflow.db to begin one."
        )
    if sentence := reason(error, database=str(sqlite_file(uri) or place)):
        return PipelineError(sentence)
    if (file := sqlite_file(uri)) and file.exists() and is_half_made(file):
        return PipelineError(
            f"The database {file} is half made, since what began it was cut off: nothing is in it, move it away or "
            "delete it, and a whole one is made."
        )
    if any(isinstance(link, requests.exceptions.SSLError) for link in causes(error)):
        return PipelineError(
            f"{place} shows a certificate that this machine does not trust: name the file of who signed it with "
            "MLFLOW_TRACKING_SERVER_CERT_PATH."
        )
    statuses = set(map(http_status, causes(error)))
    if 401 in statuses:
        return PipelineError(
            f"{place} asks for a name and a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
        )
    if 403 in statuses:
        return PipelineError(f"{place} does not allow this user to read it: ask whoever runs it.")
    return PipelineError(f"{place} cannot be used: {why}.")


@functools.cache
def launcher_run() -> str | None:
    """The run that `mlflow run` made for this process, taken out of the environment so that it is used once."""
    return os.environ.pop("MLFLOW_RUN_ID", None)


def owner() -> str:
    """Who runs this where, for people: no run is found or continued by it."""
    return f"{getpass.getuser()}@{platform.node()}"


def tracking_uri() -> str:
    """The tracking server's address, the same from whichever folder it is used later."""
    uri = mlflow.get_tracking_uri()
    file = sqlite_file(uri)
    return uri.replace(str(file), str(file.resolve()), 1) if file else uri


def chosen_experiment() -> dict[str, str]:
    """How the experiment that new runs go to was chosen: by the launcher's run, a name, or an id."""
    if run_id := launcher_run():
        return {"run_id": run_id}
    if name := os.environ.get("MLFLOW_EXPERIMENT_NAME"):
        return {"name": name}
    return {"id": os.environ.get("MLFLOW_EXPERIMENT_ID", "0")}


def current_experiment() -> str:
    """Id of the experiment new runs go to.

    Raises:
        InputError: there is none of the id that MLFLOW_EXPERIMENT_ID names, or it is deleted.
    """
    return find_experiment(connect(), chosen_experiment())


def find_experiment(client: mlflow.MlflowClient, choice: Mapping[str, str]) -> str:
    """Id of the experiment that was chosen as `chosen_experiment` has it; one of a new name is created.

    Raises:
        InputError: there is none of this id, or it is deleted.
    """
    if run_id := choice.get("run_id"):
        return client.get_run(run_id).info.experiment_id
    if name := choice.get("name"):
        found = client.get_experiment_by_name(name)
        if found is None:
            with existing_is_enough():
                return client.create_experiment(name)
            found = client.get_experiment_by_name(name)
        assert found is not None, "it is created above, here or by another process"
        return _active(found)
    try:
        return _active(client.get_experiment(choice["id"]))
    except MlflowException as error:
        if is_away(error):
            raise
        raise InputError(
            f"There is no experiment with the id '{choice['id']}' at {mlflow.get_tracking_uri()}."
        ) from error


@contextmanager
def existing_is_enough() -> Iterator[None]:
    """What is created in the block may be there already: another process was faster."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def experiment_named(name: str) -> str:
    """Id of an experiment.

    Raises:
        InputError: there is none, or it is deleted.
    """
    if found := connect().get_experiment_by_name(name):
        return _active(found)
    known = ", ".join(experiment.name for experiment in connect().search_experiments())
    raise InputError(f"There is no experiment '{name}' at {mlflow.get_tracking_uri()}: choose one of {known}.")


def _active(experiment: Experiment) -> str:
    """The id of an experiment that is not deleted."""
    if experiment.lifecycle_stage == "deleted":
        raise InputError(
            f"The experiment '{experiment.name}' is deleted: bring it back with "
            f"mlflow experiments restore --experiment-id {experiment.experiment_id}."
        )
    return experiment.experiment_id


def experiment_of(run_id: str) -> str:
    """Id of the experiment a run belongs to."""
    return connect().get_run(run_id).info.experiment_id
