"""Who trains a run, as the run's own tag says it: a lease that is renewed while it trains and else expires."""

import json
import os
import time
from dataclasses import dataclass

from mlflow.entities import Run

from pipeline.tracking.client import owner
from pipeline.tracking.schema import LEASE

# A lease lasts so many seconds and is renewed five times as often.
LASTS_VARIABLE = "DIGIT_COMPARISON_LEASE"


def lasts() -> float:
    """Seconds from a lease's last renewal to its end."""
    return float(os.environ.get(LASTS_VARIABLE, 300))


@dataclass(frozen=True)
class Lease:
    """Who trains a run, and until when that holds without being renewed.

    Attributes:
        holder: the key of the journal of whoever trains it.
        who: the same for people.
        until: seconds since 1970.
    """

    holder: str
    who: str
    until: float

    @property
    def live(self) -> bool:
        """Whether it has not expired."""
        return time.time() < self.until

    def __str__(self) -> str:
        return f"{self.who} (its lease ends {time.strftime('%H:%M:%S', time.localtime(self.until))} unless renewed)"


def write(holder: str) -> str:
    """A fresh lease, as the tag has it."""
    who = f"{owner()}, process {os.getpid()}"
    return json.dumps({"holder": holder, "who": who, "until": time.time() + lasts()})


def read(run: Run) -> Lease | None:
    """The lease of a run that has not ended, if it still holds."""
    text = run.data.tags.get(LEASE)
    if run.info.status != "RUNNING" or not text:
        return None
    lease = Lease(**json.loads(text))
    return lease if lease.live else None
