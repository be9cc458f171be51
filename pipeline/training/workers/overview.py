"""What a person sees of a study: one table that changes where a terminal looks and trainings run side by side."""

import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Self

from rich import box
from rich.console import Console
from rich.live import Live
from rich.table import Table

from pipeline.training.progress import Standing, is_watched
from pipeline.training.workers.work import Line, Work

logger = logging.getLogger(__name__)

# So many trainings that have ended are in the table, the last ones.
ENDED = 8
# And so many seconds pass between two drawings of it.
PAUSE_S = 0.2


@dataclass
class Row:
    """One training."""

    label: str
    state: str
    standing: Standing | None = None


class LiveTable(ABC):
    """A table that is drawn anew on a terminal for as long as it is entered, and then taken away.

    Args:
        watched: whether there is such a terminal.
    """

    def __init__(self, *, watched: bool) -> None:
        self.drawn = 0.0
        self.live = Live(console=Console(stderr=True), auto_refresh=False, transient=True) if watched else None

    def __enter__(self) -> Self:
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.live:
            self.live.stop()

    def draw(self) -> None:
        """Draw the table anew, unless that was just done."""
        if self.live and time.monotonic() > self.drawn + PAUSE_S:
            self.live.update(self.table(), refresh=True)
            self.drawn = time.monotonic()

    @abstractmethod
    def table(self) -> Table:
        """What it shows now."""


class Overview(LiveTable):
    """Shows how far the trainings of a study are; the lines that they say, too, where no terminal looks.

    Args:
        count: of all trainings.
        several: whether more than one trains at a time; one alone has a bar of its own.
    """

    def __init__(self, count: int, *, several: bool) -> None:
        super().__init__(watched=several and is_watched())
        self.count = count
        self.rows: dict[str, Row] = {}

    def hear(self, line: Line) -> None:
        """Show what a training says."""
        row = self.rows.setdefault(line.position, Row(line.label, "running"))
        row.standing = line.standing or row.standing
        if not (self.live and line.standing):
            logger.log(line.level, line.text)
        self.draw()

    def end(self, task: Work, failure: str) -> None:
        """Show that a training ended."""
        row = self.rows.setdefault(task.position, Row(task.label, ""))
        row.state = "failed" if failure else "done"
        self.draw()

    def table(self) -> Table:
        """What trains, what ended last, and how many there are of each."""
        states = [row.state for row in self.rows.values()]
        counts = {state: states.count(state) for state in ("running", "done", "failed")}
        counts = {"waiting": self.count - len(self.rows), **counts}
        table = Table(title=", ".join(f"{n:,} {state}" for state, n in counts.items()), box=box.SIMPLE_HEAD)
        for heading in ("", "training", "state", "epoch", "val accuracy", "left"):
            table.add_column(heading, justify="left" if heading in ("training", "state") else "right")
        ended = [entry for entry in self.rows.items() if entry[1].state != "running"]
        for position, row in [*ended[-ENDED:], *(entry for entry in self.rows.items() if entry[1].state == "running")]:
            at = row.standing
            epoch, accuracy = (f"{at.epoch}/{at.epochs}", f"{at.accuracy:.2%}") if at else ("", "")
            left = f"{at.left:.0f} s" if at and row.state == "running" else ""
            table.add_row(position, row.label, row.state, epoch, accuracy, left)
        return table
