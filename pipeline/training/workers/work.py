"""What there is to do, who may do it, and how whoever does it elsewhere tells what comes of it."""

import logging
import os
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.data.images import Dataset
from pipeline.tracking.sender import Sender
from pipeline.training import progress
from pipeline.training.continuation import Place
from pipeline.training.progress import Standing

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
        standing = getattr(record, "standing", None)
        text = text if text.startswith(self.position) else f"{self.position} {text}"
        self.tell(Line(record.levelno, text, self.position, self.label, standing))

    def tell(self, said: Line | OSError | str) -> None:
        """Say something; several threads may."""
        with self.lock:  # type: ignore[union-attr]
            self.pipe.send(said)


def choose_experiment(experiment_id: str | None) -> None:
    """Let runs go where the study's goes: the launcher's run, which tells it otherwise, is the study's own."""
    if experiment_id:
        os.environ.pop("MLFLOW_EXPERIMENT_NAME", None)
        os.environ["MLFLOW_EXPERIMENT_ID"] = experiment_id
