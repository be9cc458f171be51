"""Work on this machine: one after the other in this process, or several at a time in processes of their own."""

import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from multiprocessing.connection import Connection, wait
from pathlib import Path

import psutil
import torch

from pipeline.config import TrainConfig
from pipeline.data.images import Dataset
from pipeline.ending import QuickEnd, catch_signals
from pipeline.errors import Interrupted, causes
from pipeline.registry.register import DELIVERIES
from pipeline.tracking.sender import Sender
from pipeline.training import continuation
from pipeline.training.continuation import Place
from pipeline.training.workers.work import PATIENCE_S, Engine, Events, Line, Tell, Work, choose_experiment

logger = logging.getLogger(__name__)

# Free memory that a training is given, VGG16's with some reserve.
MEMORY = 3 * 2**30
# One architecture takes about a third of a study's time: more workers than this share of its trainings would only wait.
SHARE = 1 / 3


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


def end_with_parent() -> None:
    """Ask this process to stop when the one that began it is gone, however it ended."""
    if parent := multiprocessing.parent_process():
        parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
