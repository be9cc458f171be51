"""What a person sees of a search: one table that changes where a terminal looks, plain lines elsewhere."""

import logging
import time
from collections.abc import Sequence

from optuna.study import Study
from optuna.trial import FrozenTrial
from rich import box
from rich.table import Table

from pipeline.metrics.epoch import Epoch
from pipeline.search.results import COUNTED, best_of
from pipeline.search.search import RUNNING, WAITING, Search
from pipeline.search.space import Values, in_words
from pipeline.training.progress import is_watched
from pipeline.training.workers.overview import LiveTable

logger = logging.getLogger(__name__)

# So many of the last trials are in the table.
ROWS = 12


class Progress(LiveTable):
    """Shows one search, as far as its database knows it, and what this process does in it."""

    def __init__(self, search: Search, study: Study) -> None:
        super().__init__(watched=is_watched())
        self.search, self.study = search, study
        self.started, self.done = time.monotonic(), 0
        self.now = ""

    def epoch(self, label: str, epoch: Epoch) -> None:
        """Show how far a training is."""
        self.now = f"{label}: epoch {epoch.index} of {self.search.space.base.epochs}"
        self.draw()

    def end(self, label: str, values: Values, text: str, *, failed: bool = False) -> None:
        """Say how a training ended; in a terminal only why it failed, as the table shows the rest."""
        self.done += 1
        trials = self.study.get_trials(deepcopy=False)
        ended = sum(trial.state.is_finished() for trial in trials)
        position = f"[{ended}/{self.search.trials}] " if self.search.trials and label.startswith("trial ") else ""
        line = f"{position}{label}: {in_words(values)}: {text}; {self.standing(trials)}"
        if self.live and not failed:
            self.draw()
        else:
            logger.info(line)

    def standing(self, trials: Sequence[FrozenTrial]) -> str:
        """The best so far, and what is left of the budget."""
        best = best_of(trials)
        parts = [f"best {best.value:.2%} (trial {best.number})" if best else "none whole yet"]
        if self.search.images is not None:
            parts.append(f"{self.search.images_seen(trials):,} of {self.search.images:,} images seen")
        if self.done and (left := self.left(trials)):
            parts.append(f"{left * (time.monotonic() - self.started) / self.done:.0f} s left")
        return ", ".join(parts)

    def left(self, trials: Sequence[FrozenTrial]) -> float:
        """How many trials are still to come, about."""
        begun = sum(trial.state != WAITING for trial in trials)
        if self.search.trials is not None:
            return max(0, self.search.trials - begun)
        each = self.search.images_seen(trials) / max(1, begun)
        return max(0.0, ((self.search.images or 0) - self.search.images_seen(trials)) / max(1.0, each))

    def table(self) -> Table:
        """The last trials and how the search stands."""
        trials = self.study.get_trials(deepcopy=False)
        counts = {**COUNTED, "running": RUNNING}
        numbers = {word: sum(trial.state == state for trial in trials) for word, state in counts.items()}
        base = self.search.space.base
        table = Table(
            title=f"{base.model} on {base.dataset}: " + ", ".join(f"{n:,} {word}" for word, n in numbers.items()),
            caption=f"{self.standing(trials)}\n{self.now}",
            box=box.SIMPLE_HEAD,
        )
        for heading in ("trial", "values", "epoch", "val accuracy", "state"):
            table.add_column(heading, justify="right" if heading in ("epoch", "val accuracy") else "left")
        for trial in [trial for trial in trials if trial.state != WAITING][-ROWS:]:
            score = max(trial.intermediate_values.values(), default=None)
            state = next((word for word, kind in counts.items() if kind == trial.state), "")
            accuracy = "" if score is None else f"{score:.2%}"
            epochs = f"{trial.last_step or 0}/{base.epochs}"
            table.add_row(str(trial.number), in_words(trial.params), epochs, accuracy, state)
        return table
