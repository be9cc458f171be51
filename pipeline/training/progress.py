"""What a person sees of a training: bars where a terminal looks, plain lines elsewhere."""

import logging
import math
import multiprocessing
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeVar

from tqdm import tqdm

from pipeline.config import TrainConfig
from pipeline.metrics.epoch import Epoch

logger = logging.getLogger(__name__)
Part = TypeVar("Part")

# Of more epochs than these not every one gets a line.
LINES = 20


def is_watched() -> bool:
    """Whether a terminal shows what this process does alone."""
    return sys.stderr.isatty() and multiprocessing.parent_process() is None


@dataclass(frozen=True)
class Standing:
    """How far a training is: its epoch, the validation accuracy there, and the seconds that are left."""

    epoch: int
    epochs: int
    accuracy: float
    left: float


class Progress:
    """Shows one training: a bar over the batches of all epochs, and lines that stay, of epochs.

    Args:
        done: epochs already trained, when a training is resumed.
        steps: batches an epoch.
    """

    def __init__(self, config: TrainConfig, *, steps: int, done: int) -> None:
        self.config = config
        self.steps = steps
        self.bar = tqdm(
            desc=f"{config.model} epoch {done + 1}/{config.epochs}",
            total=config.epochs * steps,
            initial=done * steps,
            unit="batch",
            leave=False,
            dynamic_ncols=True,
            disable=not is_watched(),
        )
        self.accuracy = ""

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.close()

    def step(self, epoch: int, step: int, loss: float) -> None:
        """Move the bar to a step of an epoch; `loss` is the mean so far in it."""
        self.bar.set_description(f"{self.config.model} epoch {epoch}/{self.config.epochs}", refresh=False)
        self.bar.set_postfix_str(f"loss {loss:.4f}{self.accuracy}", refresh=False)
        self.bar.update((epoch - 1) * self.steps + step - self.bar.n)

    def epoch(self, epoch: Epoch) -> None:
        """Say what an epoch brought."""
        scores = epoch.metrics
        self.accuracy = f", val accuracy {scores['val/accuracy']:.2%}"
        every = math.ceil(self.config.epochs / LINES)
        is_told = epoch.index <= 2 or epoch.index % every == 0 or epoch.index == self.config.epochs
        found = f"  val mAP {scores['val/map']:.3f}" if "val/map" in scores else ""
        left = (self.config.epochs - epoch.index) * epoch.seconds
        line = (
            f"{self.config.model:<12} epoch {epoch.index:>{len(str(self.config.epochs))}}/{self.config.epochs}"
            f"  train loss {scores['train/loss']:.4f}  val loss {scores['val/loss']:.4f}"
            f"  val accuracy {scores['val/accuracy']:7.2%}{found}  {epoch.seconds:5.1f} s, {left:.0f} s left"
        )
        if self.bar.disable:
            # Whoever draws a table of several trainings is told of every epoch.
            standing = Standing(epoch.index, self.config.epochs, scores["val/accuracy"], left)
            logger.log(logging.INFO if is_told else logging.DEBUG, line, extra={"standing": standing})
        elif is_told:
            self.bar.write(line)


def shown(parts: Iterable[Part], what: str, *, total: int) -> Iterable[Part]:
    """The same with a bar over them where a terminal looks."""
    return tqdm(parts, what, total, leave=False, dynamic_ncols=True, disable=not is_watched())
