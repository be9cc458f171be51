"""The tracking server: connecting to it, and where new runs go."""

import functools
import getpass
import logging
import os
import platform
import re
import sqlite3
import tempfile
from importlib.metadata import version
from pathlib import Path

import mlflow
import requests
from filelock import FileLock
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from pipeline.errors import InputError, PipelineError, causes, first_line
from pipeline.names import short_hash

# What a database says that lets nobody in: it does so again however long one waits.
REFUSED = re.compile("authentication failed|access denied|does not exist|unknown database|pg_hba", re.IGNORECASE)


class ServerAway(PipelineError):
    """The tracking server cannot be reached now, and may be later."""


@functools.cache
def connect() -> mlflow.MlflowClient:
    """The connection to the tracking server that MLFLOW_TRACKING_URI names, mlflow.db in this folder by default.

    Raises:
        ServerAway: it does not answer.
        PipelineError: it answers what waiting does not mend.
    """
    return open_client(mlflow.get_tracking_uri())


def open_client(uri: str) -> mlflow.MlflowClient:
    """A connection to the tracking server at an address, whichever the environment names.

    Raises:
        ServerAway: it does not answer.
        PipelineError: it answers what waiting does not mend.
    """
    for chatty in ("alembic", "mlflow.store", "mlflow.system_metrics", "mlflow.pyfunc", "mlflow.utils.environment"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    check_file(uri)
    place = f"The tracking server at {hidden(uri)}"
    try:
        # Two processes that create the same SQLite file at once would get in each other's way.
        lock = f"mlflow-{getpass.getuser()}-{short_hash({'uri': uri})}.lock"
        with FileLock(Path(tempfile.gettempdir(), lock)):
            connection = mlflow.MlflowClient(uri)
            connection.search_experiments(max_results=1)
    except (MlflowException, SQLAlchemyError, ImportError, requests.RequestException, OSError) as error:
        text, statuses = str(error), set(map(http_status, causes(error)))
        if 401 in statuses:
            raise PipelineError(
                f"{place} asks for a name and a password: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
            ) from error
        if 403 in statuses:
            raise PipelineError(f"{place} does not allow this user to read it: ask whoever runs it.") from error
        if "out-of-date database schema" in text or "Can't locate revision" in text:
            raise PipelineError(
                f"The database {hidden(uri)} was made by another version of MLflow than {version('mlflow')}: back it "
                f"up, then run `mlflow db upgrade {hidden(uri)}` with the newer of the two."
            ) from error
        if is_away(error):
            raise ServerAway(f"{place} does not answer: {cause(error)}") from error
        raise PipelineError(f"{place} cannot be used: {cause(error)}") from error
    return connection


def check_file(uri: str) -> None:
    """Refuse a SQLite file that cannot be used at once: MLflow would try again for two minutes.

    Raises:
        PipelineError: which file, and why.
    """
    if not uri.startswith("sqlite:///"):
        return
    file = Path(uri.removeprefix("sqlite:///").split("?")[0])
    if file.is_dir():
        raise PipelineError(f"The tracking database {file} is a folder: MLFLOW_TRACKING_URI must name a file.")
    missing = next((path for path in (file, file.parent) if path.exists() and not os.access(path, os.W_OK)), None)
    if missing:
        raise PipelineError(f"The tracking database {file} cannot be written: {missing} is read-only for this user.")
    if not file.parent.is_dir():
        raise PipelineError(f"The tracking database {file} cannot be made: there is no folder {file.parent}.")
    if file.is_file() and file.stat().st_size:
        with file.open("rb") as content:
            if content.read(16) != b"SQLite format 3\0":
                raise PipelineError(f"The tracking database {file} is no SQLite file.")


def hidden(uri: str) -> str:
    """An address without the password in it."""
    return re.sub(r"(://[^:/@]*):[^@/]*@", r"\1:***@", uri)


def is_away(error: BaseException) -> bool:
    """Whether waiting may mend what a call of MLflow raised: the server is away, overloaded or being restarted."""
    return any(map(_says_away, causes(error)))


def _says_away(error: BaseException) -> bool:
    """The same of one error alone; those of requests and SQLAlchemy come inside MLflow's."""
    if isinstance(error, ServerAway):
        return True
    if (status := http_status(error)) is not None:
        return status in (408, 429) or (status >= 500 and status != 501)
    if isinstance(error, DBAPIError):
        text = str(error.orig)
        if type(error.orig).__module__.startswith("sqlite3"):
            return "locked" in text
        return error.connection_invalidated or (type(error).__name__ == "OperationalError" and not REFUSED.search(text))
    if isinstance(error, requests.exceptions.SSLError | requests.exceptions.InvalidProxyURL):
        return False
    lost = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.RetryError,
        requests.exceptions.ChunkedEncodingError,
        NoConnectionFree,
        ConnectionError,
        TimeoutError,
    )
    return isinstance(error, lost)


def http_status(error: BaseException) -> int | None:
    """The status of the server's answer that an error reports; None where it reports none."""
    if isinstance(error, RestException):
        return int(error.get_http_status_code())
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code
    # An answer that is no JSON, of a proxy for example: MLflow's other errors say 500 although no server answered.
    if isinstance(error, MlflowException) and (found := re.search(r"failed with error code (\d{3}) ", str(error))):
        return int(found[1])
    return None


def cause(error: BaseException) -> str:
    """What went wrong in one line; of a library's errors the one that says it most plainly."""
    links = list(causes(error))
    for link in links:
        if isinstance(link, requests.Timeout):
            return "it takes too long"
        if isinstance(link, requests.exceptions.RetryError):
            return "it answers with errors"
        if isinstance(link, requests.ConnectionError):
            return "no connection"
    said = [first_line(link)[:200] for link in links if isinstance(link, sqlite3.Error | OSError)]
    return said[-1] if said else first_line(error)[:200]


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
