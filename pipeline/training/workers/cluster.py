"""Trainings and searches on a Ray cluster: Ray says where and when, and any node goes on with what another left."""

import logging
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import torch

from pipeline.data.images import Dataset
from pipeline.ending import catch_signals, last_words, whole
from pipeline.errors import InputError, Interrupted, PipelineError, first_line, has_no_room, reason
from pipeline.registry.register import DELIVERIES
from pipeline.tracking.client import tracking_uri
from pipeline.tracking.database import sqlite_file
from pipeline.tracking.sender import Sender
from pipeline.training import continuation
from pipeline.training.continuation import Place
from pipeline.training.workers.work import PATIENCE_S, Events, Tell, Work, choose_experiment

logger = logging.getLogger(__name__)

# Who names the secret of a cluster otherwise than Ray's own file does it.
TOKENS = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
# Ray ends a process whose cluster is gone, without a word.
LOST = (
    "The process ended, or was ended with its cluster: run the same command again, on another cluster if need be; it "
    "goes on with what was done."
)
# How often a training goes on elsewhere when its node or process is lost.
RETRIES = 5
# Trainings that are handed over beyond those that run, so that no node waits and the cluster sees what is wanted.
AHEAD = 8
# What Ray's client says where a busy cluster takes longer than half a minute to begin what serves it.
UNREADY = "Initialization failure from server"
ATTEMPTS = 3
# Seconds between two looks at what the nodes have said.
PAUSE_S = 0.2


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster, and what is asked of it for each training or part of a search.

    Attributes:
        address: `auto` for the cluster that this machine belongs to, or one begun here where it belongs to none.
        cpus: cores, to which its threads are limited.
        gpus: a half lets two trainings share one.
        most: trainings at a time, None for as many as there is room for.
        databases: addresses that all nodes use beside the tracking server's.
    """

    address: str
    cpus: int
    gpus: float
    most: int | None = None
    databases: tuple[str, ...] = ()

    def do(self, tasks: Iterable[Work], dataset: Dataset, place: Place, sender: Sender) -> Events:
        """Do all tasks. However this generator is left, Ray is left, too.

        Raises:
            InputError: there is no such cluster, or it has no room for one training.
            OSError: a node has no room on its disk.
        """
        with last_words(LOST):
            yield from self._begun(tasks, dataset, place)

    def _begun(self, tasks: Iterable[Work], dataset: Dataset, place: Place) -> Events:
        ray = join(self.address)
        try:
            room = self._room(ray)
            # On the node of this process, which ends with it anyway.
            beside = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=False
            )
            told = ray.util.queue.Queue(actor_options={"num_cpus": 0, "scheduling_strategy": beside})
            # Once into the memory of each node, however many trainings it does.
            images = ray.put(dataset)
            remote = ray.remote(work).options(num_cpus=self.cpus, num_gpus=self.gpus, max_retries=RETRIES)
            here = Here(place.root, place.experiment_id, environment(), tuple(sys.argv))
            waiting = iter(tasks)
            begun: dict[Any, Work] = {}
            try:
                while True:
                    while len(begun) < (self.most or room + AHEAD) and (task := next(waiting, None)):
                        with whole():
                            begun[remote.remote(task, images, here, Queued(told), self.cpus)] = task
                    if not begun:
                        return
                    # Ray turns what interrupts it into errors of its own.
                    with whole():
                        ended, _ = ray.wait(list(begun), timeout=PAUSE_S)
                        lines = told.get_nowait_batch(told.size())
                    yield from lines
                    for reference in ended:
                        task = begun.pop(reference)
                        with whole():
                            failure = outcome(ray, reference, task)
                        yield task, failure
            finally:
                for reference in begun:
                    ray.cancel(reference)
                if begun:
                    ray.wait(list(begun), num_returns=len(begun), timeout=PATIENCE_S)
        finally:
            ray.shutdown()

    def _room(self, ray: ModuleType) -> int:
        """How many trainings the cluster has room for at once.

        Raises:
            InputError: for none, or its nodes cannot share what they record.
        """
        nodes = [node for node in ray.nodes() if node["Alive"]]
        if len({node["NodeManagerAddress"] for node in nodes}) > 1:
            for uri in filter(sqlite_file, (tracking_uri(), *self.databases)):
                raise InputError(
                    f"The machines of a cluster cannot share {uri}, a database in a file: start an MLflow server and "
                    "set MLFLOW_TRACKING_URI, as docs/server.md shows; tune needs --storage, too."
                )
        wanted = {"CPU": self.cpus, "GPU": self.gpus}
        rooms = [
            min(int(node["Resources"].get(kind, 0) / count) for kind, count in wanted.items() if count)
            for node in nodes
        ]
        if not any(rooms):
            cpus = max((node["Resources"].get("CPU", 0) for node in nodes), default=0)
            gpus = max((node["Resources"].get("GPU", 0) for node in nodes), default=0)
            raise InputError(
                f"No node of the cluster has room for a training with cpus={self.cpus} and gpus={self.gpus:g}: the "
                f"largest have {cpus:g} and {gpus:g}."
            )
        return sum(rooms)


def join(address: str) -> ModuleType:
    """Connect this process to a cluster; Ray itself.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
    """
    # Nothing is told to its makers, and a project that `uv run` started needs no second environment.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    if address.startswith("ray://") and (TOKENS & set(os.environ) or (Path.home() / ".ray" / "auth_token").is_file()):
        # As Ray does by itself with any other address: without its token a client waits in vain.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray
        import ray.util.queue
        import ray.util.scheduling_strategies
    except ModuleNotFoundError as error:
        raise InputError(f"engine=ray needs Ray: install requirements-ray.txt for {sys.executable}.") from error
    except ImportError as error:
        raise InputError(f"Ray cannot be used: {first_line(error)}.") from error
    # Ray itself would try for two minutes.
    try:
        parts = urlsplit(f"//{address.split('://')[-1]}")
        if parts.hostname and parts.port:
            socket.create_connection((parts.hostname, parts.port), timeout=5).close()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or first_line(error)
        raise InputError(f"Nothing answers at address={address}: {why}.") from error
    # Where the nodes find this project if it is not installed there.
    found = os.pathsep.join(filter(None, [str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")]))
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": {"PYTHONPATH": found}},
    }
    try:
        try:
            ask(ray, address, options)
        except ConnectionError:
            if address != "auto" or os.environ.get("RAY_ADDRESS"):
                raise
            ray.init(include_dashboard=False, _node_ip_address="127.0.0.1", **options)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError, ImportError) as error:
        # Of a failure on the cluster's side Ray shows where it was before it says what.
        why = first_line(error) if UNREADY not in str(error) else str(error).strip().splitlines()[-1].rstrip(".")
        raise InputError(f"There is no Ray cluster at address={address}: {why}.") from error
    # Ray has handlers of its own, which would end this process without a word.
    catch_signals()
    return ray


def ask(ray: ModuleType, address: str, options: Mapping[str, Any]) -> None:
    """Connect to a cluster, which is asked again where it is busy.

    Raises:
        ConnectionError: there is none, or it stays busy.
    """
    for left in reversed(range(ATTEMPTS)):
        try:
            ray.init(address=address, **options)
            return
        except ConnectionError as error:
            if not left or UNREADY not in str(error):
                raise
            logger.info("The cluster at %s is not ready: it is asked again.", address)


def outcome(ray: ModuleType, reference: Any, task: Work) -> str:
    """Why a task failed, empty where it did not.

    Raises:
        OSError: a node has no room on its disk.
    """
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if has_no_room(error.cause):
            raise error.cause from error
        failure = reason(error.cause) or first_line(error.cause)
    except ray.exceptions.RayError as error:
        failure = f"its process was lost {RETRIES + 1} times, or Ray could not begin it: {first_line(error)}"
    if "No module named" in failure:
        failure = f"its node lacks this project or a package that it needs ({failure}): bring both to all nodes"
    logger.warning("%s %s: failed: %s", task.position, task.label, failure)
    return failure


# --- On the nodes --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Here:
    """What a node needs to know of the process that began the study.

    Attributes:
        environment: the variables by which MLflow, its stores and this project are told what to do.
        arguments: of its command line.
    """

    root: Path
    experiment_id: str | None
    environment: Mapping[str, str]
    arguments: tuple[str, ...]


def environment() -> dict[str, str]:
    """The variables that decide where and how runs are recorded, with the server's address as a whole."""
    ours = ("MLFLOW_", "AWS_", "DIGIT_COMPARISON_", "GOOGLE_", "AZURE_", "DATABRICKS_")
    found = {name: value for name, value in os.environ.items() if name.startswith(ours)}
    return {**found, "MLFLOW_TRACKING_URI": tracking_uri()}


class Queued:
    """Ray's queue, as the modules of a process send to a pipe."""

    def __init__(self, queue: Any) -> None:
        self.queue = queue

    def send(self, said: object) -> None:
        """Put it into the queue, unless whoever reads it is gone."""
        with suppress(Exception):
            self.queue.put(said)


def work(task: Work, dataset: Dataset, here: Here, told: Queued, cpus: int) -> str:
    """Do one task; why it failed, empty where it did not.

    A process that is asked to stop ends, so that Ray does the task again elsewhere.

    Raises:
        OSError: there is no room on the disk.
    """
    catch_signals()
    os.environ.update(here.environment)
    sys.argv[:] = here.arguments
    choose_experiment(here.experiment_id)
    torch.set_num_threads(cpus)
    tell = Tell(told)
    tell.begin(task)
    tell.takes_over()
    try:
        with Sender(DELIVERIES) as sender:
            return task.do(dataset, continuation.find_place(here.root, patient=True), sender)
    except Interrupted as interrupted:
        os._exit(interrupted.exit_code)
    except PipelineError as error:
        return str(error)
