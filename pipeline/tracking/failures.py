"""Failures of a tracking server: what they mean, and asking again."""

import os
import re
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import requests
from mlflow.environment_variables import MLFLOW_HTTP_REQUEST_MAX_RETRIES
from mlflow.exceptions import MlflowException, RestException
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from pipeline.errors import PipelineError, causes, first_line, reason

T = TypeVar("T")

# What a database says where another process has just written the same: MLflow looks first and writes then.
WRITTEN_MEANWHILE = re.compile("UniqueViolation|UNIQUE constraint failed|Duplicate entry")
# What a database says that lets nobody in: it does so again however long one waits.
REFUSED = re.compile("authentication failed|access denied|does not exist|unknown database|pg_hba", re.IGNORECASE)
# How often creating something is attempted, and seconds in between.
ATTEMPTS, PAUSE_S = 8, 0.5

environment = threading.Lock()


class ServerAway(PipelineError):
    """The tracking server cannot be reached or asks for patience: it may answer later."""


def is_away(error: BaseException) -> bool:
    """Whether waiting may mend what a call of MLflow raised: the server is away, overloaded or being restarted."""
    return any(map(_says_away, causes(error)))


def _says_away(error: BaseException) -> bool:
    """The same of one error alone; those of requests and SQLAlchemy come inside MLflow's."""
    if isinstance(error, ServerAway):
        return True
    if (status := http_status(error)) is not None:
        return status in (408, 429) or (status >= 500 and status != 501)
    if isinstance(error, sqlite3.Error):
        return "locked" in str(error)
    if isinstance(error, DBAPIError):
        text = str(error.orig)
        if isinstance(error.orig, sqlite3.Error):
            return False
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
    return (reason(error) or first_line(error))[:300].rstrip(".")


def once_more(call: Callable[[], T]) -> T:
    """What a call gives that may be repeated: again where another process wrote the same at that moment."""
    try:
        return call()
    except Exception as error:
        if not any(WRITTEN_MEANWHILE.search(str(link)) for link in causes(error)):
            raise
        return call()


@contextmanager
def unrepeated() -> Iterator[None]:
    """In this block MLflow sends each request once, which it reads from the environment."""
    name = MLFLOW_HTTP_REQUEST_MAX_RETRIES.name
    with environment:
        before = os.environ.get(name)
        os.environ[name] = "0"
        try:
            yield
        finally:
            if before is None:
                del os.environ[name]
            else:
                os.environ[name] = before


def create_once(find: Callable[[], T | None], create: Callable[[], T]) -> T:
    """What is on the server already, or is created now.

    MLflow repeats a request whose answer was lost, and so creates a second run, model or version: here it is looked
    for before each attempt.

    Args:
        find: gives what was created by the same caller, if anything was.
        create: asks the server in one request.
    """
    for left in reversed(range(ATTEMPTS)):
        if (found := find()) is not None:
            return found
        try:
            with unrepeated():
                return create()
        except Exception as error:
            if not left or not is_away(error):
                raise
        time.sleep(PAUSE_S)
    raise AssertionError("the last attempt gives something or raises")
