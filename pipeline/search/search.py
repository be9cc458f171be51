"""What is searched, what may be spent on it, and what was."""

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from pipeline.names import short_hash
from pipeline.search import Pruning
from pipeline.search.space import Space
from pipeline.search.storage import masked

RUNNING, WAITING, FAILED = TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL
COMPLETE, PRUNED = TrialState.COMPLETE, TrialState.PRUNED


@dataclass(frozen=True)
class Search:
    """What is searched, and what may be spent on it.

    Attributes:
        trials: how many there may be; None for any number.
        images: how many training images all of them may see, the last one to its end; None for any number.
        train_images: how many an epoch sees.
        seeds: how many other seeds the best trial's values and the recipe's own are trained with in the end.
        folds: in place of them, of how many parts of the training file each is validated on once, with another seed
            each; 0: none, all are validated on the images of the search.
        storage: address of the database with the trials.
    """

    space: Space
    trials: int | None
    images: int | None
    train_images: int
    seeds: int
    folds: int
    pruning: Pruning
    storage: str

    @property
    def key(self) -> str:
        """Short hash that two searches share only when they are one: the same trials in the same database."""
        return short_hash({"trials": self.name, "storage": masked(self.storage)})

    @property
    def name(self) -> str:
        """What its trials are called in their database; equal where they may stand in one list."""
        alike = short_hash({"space": self.space.key, "pruning": self.pruning})
        return f"{self.space.base.dataset}-{self.space.base.model}-{alike}"

    @property
    def fresh(self) -> list[tuple[int, str]]:
        """Seeds that no trial had, and the fold that each is validated on."""
        first = self.space.base.seed + 1
        if self.folds:
            return [(first + number, f"{number + 1}/{self.folds}") for number in range(self.folds)]
        return [(first + number, "") for number in range(self.seeds)]

    def images_seen(self, trials: Sequence[FrozenTrial]) -> int:
        """How many training images these trials have seen."""
        return sum(len(trial.intermediate_values) for trial in trials) * self.train_images

    def is_spent(self, trials: Sequence[FrozenTrial]) -> bool:
        """Whether no trial may be begun any more."""
        if self.trials is not None and sum(trial.state != WAITING for trial in trials) >= self.trials:
            return True
        # A trial that fails before its first epoch counts for one: no search shall fail for ever.
        failed = sum(trial.state == FAILED and not trial.intermediate_values for trial in trials) * self.train_images
        return self.images is not None and self.images_seen(trials) + failed >= self.images


def equal_budget(spaces: Sequence[Space], *, trials: int, train_images: int) -> int:
    """Training images that each of several searches may see: those of so many trials of the shortest training."""
    return trials * train_images * min(space.base.epochs for space in spaces)
