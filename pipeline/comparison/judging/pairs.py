"""Whether two architectures differ: what each training predicted, and the tests of all pairs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from pipeline.metrics.catalog import CONSTANT, LOGGED, OF_SCORES
from pipeline.tracking.training_run import Results, TrainingRun

if TYPE_CHECKING:
    from pipeline.comparison.judging.planning import Design
    from pipeline.comparison.judging.stats import Estimate, Simultaneous

SIGNIFICANT = 0.05
COLUMNS = ["first", "second", "difference", "low", "high", "test", "p_value", "p_adjusted", "improvement"]
# Of more trainings of one architecture these are enough to tell it from another.
MAX_TESTED = 20


def known_values(runs: Iterable[TrainingRun], metric: str) -> list[float]:
    """A metric of those trainings that have it."""
    return [run.metrics[LOGGED[metric]] for run in runs if run.has(LOGGED[metric])]


@dataclass(frozen=True)
class Examined:
    """What the answers of architectures to the test images tell.

    Attributes:
        pairs: one row a pair; columns first, second, difference with low and high, test, p_value, p_adjusted, and how
            likely one training of the first has a greater value than one of the second, where both were repeated.
        untested: labels of those whose answers are not at hand.
        intervals: 95 %, of accuracies of repeated trainings on other images and with other seeds.
        designs: by label, how its difference to the first architecture would be known in other studies.
    """

    pairs: pd.DataFrame
    untested: list[str] = field(default_factory=list)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    designs: Mapping[str, "Design"] = field(default_factory=dict)


@dataclass(frozen=True)
class Pair:
    """Two architectures, held against each other.

    Attributes:
        difference: of the first and the second, in the metric.
        p_value: of this pair by itself.
        nodes: of what their difference is one, by which the differences of several pairs hang together.
    """

    first: str
    second: str
    difference: "Estimate"
    test: str
    p_value: float
    nodes: tuple[int, int]


def examine_pairs(metric: str, members: Mapping[str, Sequence[TrainingRun]], results: Results) -> Examined:
    """Whether each pair differs, and by how much.

    Accuracy is tested on the images: over images and seeds where any was repeated, whose seeds tell how much those of
    all vary, otherwise by McNemar's test. Other metrics are tested over seeds, by Welch's test; those that mean another
    thing for a detector, not between it and a classifier.

    Args:
        members: the trainings of each, the best first.
    """
    values = {label: known_values(runs, metric) for label, runs in members.items()}
    if metric in CONSTANT:
        return Examined(pd.DataFrame(columns=COLUMNS))
    if metric != "accuracy":
        return examine_values(metric, members, {label: found for label, found in values.items() if len(found) > 1})
    if len(members) == 1 and len(next(iter(values.values()))) == 1:
        return Examined(pd.DataFrame(columns=COLUMNS))
    return examine_answers(values, {label: wrong_predictions(runs, results) for label, runs in members.items()})


def examine_answers(values: Mapping[str, Sequence[float]], known: Mapping[str, np.ndarray | None]) -> Examined:
    """The pairs by what each training answered.

    Args:
        values: the accuracies of the trainings of each.
        known: bool (seeds, N), which images each training answered wrong; None where that is not at hand.
    """
    from pipeline.comparison.judging import stats
    from pipeline.comparison.judging.planning import Design

    wrong = {label: found for label, found in known.items() if found is not None}
    # Answers to another number of images are not those to the test images.
    images = max((found.shape[1] for found in wrong.values()), default=0)
    wrong = {label: found for label, found in wrong.items() if found.shape[1] == images}
    among = stats.spread(wrong.values())
    # Of many trainings not all answers were looked through: how these vary is laid around the mean of all.
    rates = {label: 1 - float(np.mean(values[label])) for label in wrong}
    found = []
    for (place, first), (other, second) in combinations(enumerate(wrong), 2):
        errors = stats.difference(wrong[first], wrong[second], among)
        # Of the accuracies: what one errs more, it is right less.
        difference = replace(errors, value=rates[second] - rates[first])
        test, p_value = "crossed", difference.p_value
        if not among.freedom:
            test, p_value = "McNemar", stats.mcnemar(wrong[first][0], wrong[second][0])
        found.append(Pair(first, second, difference, test, p_value, (place, other)))
    shares = [own.mean(0) for own in wrong.values()]
    weights = [rates[label] ** 2 / len(own) for label, own in wrong.items()]
    adjusted = adjust(found, stats.covariance(np.array(shares, float), weights, among) if wrong else np.empty((0, 0)))
    designs = {}
    for pair in found:
        if pair.first == next(iter(known)):
            of_both = wrong[pair.first], wrong[pair.second]
            designs[pair.second] = Design.of(*of_both, among, len(wrong), adjusted.confidence)
    return Examined(
        tabulate(found, adjusted, values),
        [label for label in known if label not in wrong],
        {label: stats.accuracy_interval(own, among, rates[label]) for label, own in wrong.items() if len(own) > 1},
        designs,
    )


def examine_values(
    metric: str, members: Mapping[str, Sequence[TrainingRun]], several: Mapping[str, Sequence[float]]
) -> Examined:
    """The pairs by the values of a metric, of those that have several."""
    from pipeline.comparison.judging import stats

    found = []
    for (place, first), (other, second) in combinations(enumerate(several), 2):
        if metric in OF_SCORES and is_detector(members[first]) is not is_detector(members[second]):
            continue
        difference = stats.welch(several[first], several[second])
        found.append(Pair(first, second, difference, "Welch", difference.p_value, (place, other)))
    independent = np.diag([float(np.var(values, ddof=1)) / len(values) for values in several.values()])
    return Examined(tabulate(found, adjust(found, independent), several))


def adjust(found: Sequence[Pair], of: np.ndarray) -> "Simultaneous":
    """All pairs at once, by the covariance of their nodes."""
    from pipeline.comparison.judging import stats

    return stats.simultaneous([pair.p_value for pair in found], [pair.nodes for pair in found], of)


def tabulate(found: Sequence[Pair], adjusted: "Simultaneous", values: Mapping[str, Sequence[float]]) -> pd.DataFrame:
    """One row a pair.

    Args:
        values: the metric of the trainings of each.
    """
    means = {label: float(np.mean(of_one)) for label, of_one in values.items()}
    rows = []
    for pair, p_adjusted in zip(found, adjusted.p_values, strict=True):
        low, high = interval(pair.difference, adjusted.confidence, differs=p_adjusted < SIGNIFICANT)
        difference = means[pair.first] - means[pair.second]
        likely = improvement(values[pair.first], values[pair.second])
        rows.append((pair.first, pair.second, difference, low, high, pair.test, pair.p_value, p_adjusted, likely))
    return pd.DataFrame(rows, columns=COLUMNS)


def improvement(first: Sequence[float], second: Sequence[float]) -> float:
    """The probability that a training of the first has a greater value than one of the second; NaN of single ones.

    Agarwal et al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021,
    arXiv:2108.13264: the share of all pairs of trainings, of which equal ones count half.
    """
    if min(len(first), len(second)) < 2:
        return np.nan
    return float((np.sign(np.subtract.outer(first, second)).mean() + 1) / 2)


def interval(difference: "Estimate", confidence: float, *, differs: bool) -> tuple[float, float]:
    """The interval of a difference, in agreement with the test beside it.

    Step by step more is told apart than by intervals that hold all at once, and an exact test goes its own way. Where
    they disagree, the interval ends at no difference: Guilbaud, "Simultaneous confidence regions corresponding to
    Holm's step-down procedure and other closed-testing procedures", Biometrical Journal 2008.
    """
    low, high = difference.interval(confidence)
    if not differs:
        return min(low, 0.0), max(high, 0.0)
    return (max(low, 0.0), high) if difference.value > 0 else (low, min(high, 0.0))


def is_detector(runs: Sequence[TrainingRun]) -> bool:
    """Whether these trainings have what only detectors have."""
    return runs[0].has(LOGGED["map"])


def wrong_predictions(runs: Sequence[TrainingRun], results: Results) -> np.ndarray | None:
    """Which test images each training answered wrong, bool (seeds, N); None where one's answers are not at hand."""
    found: list[np.ndarray] = []
    for run in runs[:MAX_TESTED]:
        table = results.predictions(run)
        if table is None or (found and len(table) != len(found[0])):
            return None
        found.append((table["target"] != table["prediction"]).to_numpy())
    return np.array(found)
