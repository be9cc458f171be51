"""What a search found: the recipe, how sure it is, what was spent."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from pipeline.errors import PipelineError
from pipeline.names import short_hash
from pipeline.search.search import COMPLETE, FAILED, PRUNED, Search
from pipeline.search.space import Values, in_words

OWN, TUNED = "own recipe", "tuned recipe"
COUNTED = {"complete": COMPLETE, "pruned": PRUNED, "failed": FAILED}


@dataclass(frozen=True)
class Result:
    """What a search found.

    Attributes:
        trials: all of them.
        best: the one with the best validation.
        values: what the recipe is to have.
        name: whose values these are, the best trial's or the recipe's own.
        fresh: validation accuracy with fresh seeds, by name.
        counts: trials by how they ended.
        images: training images seen, those with fresh seeds included.
        looks: how often validation was looked at.
        expected: the expected best accuracy of one, two, ... trials.
    """

    search: Search
    trials: Sequence[FrozenTrial]
    best: FrozenTrial
    own: float | None
    values: Values
    name: str
    fresh: Mapping[str, Sequence[float]]
    counts: Mapping[str, int]
    images: int
    looks: int
    expected: Sequence[float]

    def sentences(self) -> list[str]:
        """The same in words."""
        base = self.search.space.base
        images = f"the {base.val_size:,} validation images"
        before = "" if self.own is None else f", where the recipe's own values have {self.own:.2%}"
        if self.best.number == 0:
            before = ", the recipe's own values"
        found = [
            f"{base.model} on {base.dataset}: the best of {sum(self.counts.values()):,} trials is trial "
            f"{self.best.number} with {self.best.value:.2%} accuracy on {images}{before} "
            f"({', '.join(f'{count:,} {word}' for word, count in self.counts.items())})."
        ]
        if self.fresh:
            each = "; ".join(f"{name} {mean_and_deviation(scores)}" for name, scores in self.fresh.items())
            count = min(map(len, self.fresh.values()))
            images = f"each on another of {self.search.folds} parts" if self.search.folds else "on the same images"
            found.append(f"With {count} fresh seed{'s' * (count > 1)}, {images}: {each}.")
        kept = "the recipe's own values stay" if self.name == OWN else in_words(self.values)
        found.append(f"The recipe: {kept}.")
        found.append(
            f"Spent: {self.images:,} training images seen. Validation was looked at {self.looks:,} times, so what it "
            "says of the best is too good; the test images were not looked at."
        )
        return found


def candidates(search: Search, trials: Sequence[FrozenTrial]) -> dict[str, Values]:
    """The recipe's own values and the best trial's, where these are others."""
    best = best_of(trials)
    own = search.space.own
    return {OWN: own} | ({TUNED: best.params} if best and best.params != own else {})


def best_of(trials: Sequence[FrozenTrial]) -> FrozenTrial | None:
    """The trial with the highest accuracy on validation, of equal ones that with the lowest loss."""
    complete = [trial for trial in trials if trial.state == COMPLETE]
    return max(complete, key=lambda trial: (trial.value, -trial.user_attrs["val/loss"], -trial.number), default=None)


def confirmation(values: Values, seed: int, fold: str) -> str:
    """Where the database keeps what values brought with a fresh seed."""
    return f"seed {seed}{f' fold {fold}' if fold else ''} of {short_hash(values)}"


def result_of(search: Search, study: Study) -> Result:
    """What there is in the database.

    Raises:
        PipelineError: no trial was completed.
    """
    trials = study.get_trials(deepcopy=False)
    best = best_of(trials)
    if best is None:
        reasons = [trial.user_attrs["failure"] for trial in trials if "failure" in trial.user_attrs]
        raise PipelineError(f"No trial was completed: {reasons[0] if reasons else 'none has ended.'}")
    known = study.user_attrs
    tried = candidates(search, trials)
    fresh = {}
    for name, values in tried.items():
        found = [known.get(confirmation(values, *fresh_one), {}) for fresh_one in search.fresh]
        if scores := [one["val/accuracy"] for one in found if "val/accuracy" in one]:
            fresh[name] = scores
    # What only validation with one seed calls better shall not replace what is at hand.
    luck = TUNED in fresh and OWN in fresh and statistics.mean(fresh[TUNED]) < statistics.mean(fresh[OWN])
    name = OWN if luck or TUNED not in tried else TUNED
    confirmed = sum(one.get("epochs", 0) for one in known.values() if isinstance(one, Mapping))
    epochs = sum(len(trial.intermediate_values) for trial in trials) + confirmed
    first = trials[0]
    scores = [max(trial.intermediate_values.values()) for trial in trials if trial.intermediate_values]
    return Result(
        search,
        trials,
        best,
        first.value if first.state == COMPLETE else None,
        tried[name],
        name,
        fresh,
        {word: sum(trial.state == state for trial in trials) for word, state in COUNTED.items()},
        epochs * search.train_images,
        epochs,
        expected_best(scores),
    )


def expected_best(scores: Sequence[float]) -> list[float]:
    """The expected highest of 1, 2, ... scores drawn at random, with replacement, from these.

    Dodge et al., "Show Your Work: Improved Reporting of Experimental Results", EMNLP 2019. A pruned trial counts with
    its best epoch.
    """
    ordered = np.sort(np.asarray(scores, dtype=float))
    share = np.arange(len(ordered) + 1) / max(1, len(ordered))
    return [float(ordered @ np.diff(share**draws)) for draws in range(1, len(ordered) + 1)]


def mean_and_deviation(scores: Sequence[float]) -> str:
    """A mean with its standard deviation, where there are several."""
    mean = f"{statistics.mean(scores):.2%}"
    return f"{mean} ± {statistics.stdev(scores):.2%}" if len(scores) > 1 else mean
