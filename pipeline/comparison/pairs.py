"""Whether two architectures differ: what each training predicted, and the tests of all pairs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.metrics.catalog import CONSTANT, LOGGED, OF_SCORES
from pipeline.tracking.training_run import Results, TrainingRun

SIGNIFICANT = 0.05
# Of more trainings of one architecture these are enough to tell it from another.
MAX_TESTED = 20


def known_values(runs: Iterable[TrainingRun], metric: str) -> list[float]:
    """A metric of those trainings that have it."""
    return [run.metrics[LOGGED[metric]] for run in runs if run.has(LOGGED[metric])]


@dataclass(frozen=True)
class Examined:
    """What the answers of architectures to the test images tell.

    Attributes:
        pairs: one row a pair; columns first, second, difference with low and high, test, p_value, p_holm.
        untested: labels of those whose answers are not at hand.
        intervals: 95 %, of accuracies of repeated trainings on other images and with other seeds.
    """

    pairs: pd.DataFrame
    untested: list[str]
    intervals: Mapping[str, tuple[float, float]]


def examine_pairs(metric: str, members: Mapping[str, Sequence[TrainingRun]], results: Results) -> Examined:
    """Whether each pair differs, and by how much.

    Accuracy is tested on the images: over images and seeds where both were repeated, otherwise by McNemar's test of
    the newest run of each. Other metrics are tested over seeds, by Welch's test; those that mean another thing for a
    detector, not between it and a classifier.
    """
    from pipeline.comparison import stats

    columns = ["first", "second", "difference", "low", "high", "test", "p_value"]
    rows: list[tuple] = []
    untested: list[str] = []
    intervals: dict[str, tuple[float, float]] = {}
    values = {label: known_values(runs, metric) for label, runs in members.items()}
    means = {label: float(np.mean(found)) for label, found in values.items()}
    if metric == "accuracy" and (len(members) > 1 or len(next(iter(values.values()), ())) > 1):
        known = {label: wrong_predictions(runs, results) for label, runs in members.items()}
        untested = [label for label, found in known.items() if found is None]
        wrong = {label: found for label, found in known.items() if found is not None}
        # Answers to another number of images are not those to the test images.
        images = max((found.shape[1] for found in wrong.values()), default=0)
        untested += [label for label, found in wrong.items() if found.shape[1] != images]
        wrong = {label: found for label, found in wrong.items() if found.shape[1] == images}
        among = stats.spread(wrong.values())
        intervals = {label: stats.accuracy_interval(own, among) for label, own in wrong.items() if len(own) > 1}
        for first, second in combinations(wrong, 2):
            if first in intervals and second in intervals:
                errors = stats.difference(wrong[first], wrong[second], among)
                test, p_value = "crossed", errors.p_value
            else:
                errors = stats.difference(wrong[first][:1], wrong[second][:1], stats.Spread())
                test, p_value = "McNemar", stats.mcnemar(wrong[first][0], wrong[second][0])
            low, high = errors.interval
            # Of the accuracies: what one errs more, it is right less.
            rows.append((first, second, means[first] - means[second], -high, -low, test, p_value))
    elif metric not in CONSTANT:
        several = {label: found for label, found in values.items() if len(found) > 1}
        for first, second in combinations(several, 2):
            if metric in OF_SCORES and is_detector(members[first]) is not is_detector(members[second]):
                continue
            p_value, low, high = stats.welch(several[first], several[second])
            rows.append((first, second, means[first] - means[second], low, high, "Welch", p_value))
    pairs = pd.DataFrame(rows, columns=columns)
    return Examined(pairs.assign(p_holm=stats.holm(pairs["p_value"])), untested, intervals)


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
