"""The trainings of a study: one after the other in this process, or several at a time in processes of their own."""

import logging
import multiprocessing
import os
import platform
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

import psutil
import torch

import models
from pipeline.config import TRAINING_VERSION, TrainConfig
from pipeline.data.images import Dataset
from pipeline.ending import QuickEnd, catch_signals
from pipeline.errors import InputError, Interrupted, causes, has_no_room, why_failed
from pipeline.registry.register import DELIVERIES
from pipeline.tracking.sender import Sender
from pipeline.training import continuation, progress, weights
from pipeline.training.continuation import Place
from pipeline.training.progress import Standing
from pipeline.training.run import train

logger = logging.getLogger(__name__)

# Free memory that a training is given, VGG16's with some reserve.
MEMORY = 3 * 2**30
# One architecture takes about a third of a study's time: more workers than this share of its trainings would only wait.
SHARE = 1 / 3
# How long a process may take to save what it has when it is asked to stop.
PATIENCE_S = 30.0


class Work(Protocol):
    """What a process of this machine or a node of a cluster can do.

    Attributes:
        position: where it stands among all, for people.
        label: what it is called.
    """

    @property
    def position(self) -> str: ...

    @property
    def label(self) -> str: ...

    def do(self, dataset: Dataset, place: Place, sender: Sender) -> str:
        """Do it; why it failed, empty where it did not."""


@dataclass(frozen=True)
class Task:
    """One training of a study.

    Attributes:
        position: where it stands among all, for people.
        label: what it and its run are called.
        study: the key of the study's journal, its own, and its run's id.
        tuning: as `run.train` takes it.
    """

    position: str
    label: str
    config: TrainConfig
    study: Mapping[str, str]
    register: bool
    tuning: str = ""

    def do(self, dataset: Dataset, place: Place, sender: Sender) -> str:
        """Train what is not finished yet; why it failed, empty where it did not."""
        return attempt(self, dataset, place, sender)


@dataclass(frozen=True)
class Line:
    """What a process has to say to people of what it does.

    Attributes:
        position, label: of whose work.
        standing: how far that is, if this says so.
    """

    level: int
    text: str
    position: str
    label: str
    standing: Standing | None = None


# Does all of it; what its processes say, and each piece of work as it ends, with why it failed.
Events = Generator[Line | tuple[Work, str]]
Engine = Callable[[Iterable[Work], Dataset, Place, Sender], Events]


def on_this_machine(count: int) -> Engine:
    """The engine that does so many tasks at a time."""
    return in_turn if count == 1 else partial(side_by_side, count=count)


def paying(configs: Sequence[TrainConfig]) -> int:
    """How many of these trainings side by side are done soonest.

    The operations of one training do not fill several cores; a GPU is filled by one.
    """
    if any(config.device != "cpu" for config in configs):
        return 1
    most = min(torch.get_num_threads(), psutil.virtual_memory().available // MEMORY, round(SHARE * len(configs)))
    return max(1, most)


def attempt(task: Task, dataset: Dataset, place: Place, sender: Sender) -> str:
    """Train what is not finished yet; why it failed, empty where it did not.

    A training that was cut is resumed from its checkpoint, one that failed without leaving one starts again in a run
    of its own.

    Raises:
        Exception: there is no room on the disk, of which every other training would fail as well.
    """
    config, position = task.config, f"{task.position} {task.label}"
    try:
        check_code(config)
        standing = continuation.find_training(config, place, sender, study=task.study)
        if standing.finished:
            logger.info("%s: finished before", position)
            return ""
        doing = "resuming" if standing.journal else "training"
        logger.info("%s: %s on %s in %s", position, doing, config.device, config.precision)
        result, _ = train(
            config,
            dataset,
            root=place.root,
            sender=sender,
            start=weights.load(config.weights, config.model, config.model_args, classes=dataset.classes),
            journal=standing.journal,
            study=task.study,
            name=task.label,
            register=task.register,
            tuning=task.tuning,
        )
    except Exception as error:
        if has_no_room(error):
            raise
        # Whatever it is: the others go on. The run of this one keeps the traceback.
        failure = why_failed(error)
        logger.warning("%s: failed: %s", position, failure)
        return failure
    logger.info("%s: %s", position, result.summary())
    return ""


def check_code(config: TrainConfig) -> None:
    """Refuse to train what the code on this machine makes otherwise than that of whoever planned it.

    Raises:
        InputError: the project's version here is another.
    """
    here = (models.get(config.model).sha256, TRAINING_VERSION)
    if here != (config.architecture_sha256, config.training_version):
        raise InputError(
            f"{platform.node()} has another version of this project than the machine that began the study: bring both "
            "to the same."
        )


def in_turn(tasks: Iterable[Work], dataset: Dataset, place: Place, sender: Sender) -> Events:
    """Do one task after the other; each with why it failed."""
    for task in tasks:
        yield task, task.do(dataset, place, sender)


def side_by_side(tasks: Iterable[Work], dataset: Dataset, place: Place, sender: Sender, *, count: int) -> Events:
    """Do so many tasks at a time.

    Every process computes with its share of this one's threads. What it could not tell the tracking server is left in
    the journals. However this generator is left, no process stays behind.

    Raises:
        OSError: there is no room on the disk.
    """
    waiting = iter(tasks)
    idle: list[Worker] = []
    busy: dict[Connection, Worker] = {}
    try:
        while True:
            while len(busy) < count and (task := next(waiting, None)):
                worker = idle.pop() if idle else Worker(dataset, place, max(1, torch.get_num_threads() // count))
                worker.begin(task)
                busy[worker.pipe] = worker
            if not busy:
                return
            for pipe in wait(list(busy)):
                worker = busy[pipe]  # type: ignore[index]
                said = worker.listen()
                if isinstance(said, Line):
                    yield said
                elif isinstance(said, OSError):
                    raise said
                else:
                    del busy[worker.pipe]
                    if worker.process.is_alive():
                        idle.append(worker)
                    yield worker.task, said
    finally:
        for worker in idle:
            worker.pipe.close()
        for worker in busy.values():
            worker.process.terminate()
        for worker in [*idle, *busy.values()]:
            worker.process.join(PATIENCE_S)
            worker.process.kill()


# --- The processes -------------------------------------------------------------------------------------------------


class Worker:
    """A process that trains, seen from outside."""

    task: Work

    def __init__(self, dataset: Dataset, place: Place, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(
            target=work, args=(theirs, dataset, place.root, place.experiment_id, threads), daemon=True
        )
        self.process.start()
        theirs.close()

    def begin(self, task: Work) -> None:
        """Let it do a task."""
        self.task = task
        self.pipe.send(task)

    def listen(self) -> Line | OSError | str:
        """What it says next: a line, that the disk is full, or, when the task has ended, why it failed."""
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            failure = (
                f"its process was ended from outside (exit code {self.process.exitcode}), as the system does when "
                "memory runs out: run the study again, with fewer workers"
            )
            logger.warning("%s %s: failed: %s", self.task.position, self.task.label, failure)
            return failure


class Pipe(Protocol):
    """What leads to the process that began it."""

    def send(self, said: Any, /) -> None: ...


class Tell(logging.Handler):
    """What the modules of a process log, told to the process that began it."""

    def __init__(self, pipe: Pipe) -> None:
        super().__init__()
        self.pipe = pipe
        self.position = self.label = ""

    def begin(self, task: Work) -> None:
        """What is said from now on is about this."""
        self.position, self.label = task.position, task.label

    def takes_over(self) -> None:
        """Get all that this process would have said itself."""
        above = logging.getLogger("pipeline")
        above.handlers, above.propagate = [self], False
        above.setLevel(logging.INFO)
        logging.getLogger(progress.__name__).setLevel(logging.DEBUG)
        # That a server is away the process that gives the tasks says for all.
        logging.getLogger("pipeline.tracking.sender").setLevel(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        own = record.name == __name__
        standing = getattr(record, "standing", None)
        text = text if own else f"{self.position} {text}"
        self.tell(Line(record.levelno, text, self.position, self.label, standing))

    def tell(self, said: Line | OSError | str) -> None:
        """Say something; several threads may."""
        with self.lock:  # type: ignore[union-attr]
            self.pipe.send(said)


def work(pipe: Connection, dataset: Dataset, root: Path, experiment_id: str | None, threads: int) -> None:
    """What a process does: one task after the other, until there is none or whoever gives them is gone."""
    with QuickEnd():
        try:
            catch_signals()
            threading.Thread(target=end_with_parent, daemon=True).start()
            torch.set_num_threads(threads)
            told = Tell(pipe)
            told.takes_over()
            choose_experiment(experiment_id)
            place = continuation.find_place(root)
            with Sender(DELIVERIES) as sender:
                while True:
                    task: Work = pipe.recv()
                    told.begin(task)
                    try:
                        told.tell(task.do(dataset, place, sender))
                    except Exception as error:
                        told.tell(next(cause for cause in causes(error) if isinstance(cause, OSError)))
        except Interrupted as interrupted:
            sys.exit(interrupted.exit_code)
        except (EOFError, BrokenPipeError, ConnectionResetError):
            # Nothing more is to be done, or nobody waits for it.
            return


def choose_experiment(experiment_id: str | None) -> None:
    """Let runs go where the study's goes: the launcher's run, which tells it otherwise, is the study's own."""
    if experiment_id:
        os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
        os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id


def end_with_parent() -> None:
    """Ask this process to stop when the one that began it is gone, however it ended."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
