"""Whether two architectures differ: what each training predicted, and the tests of all pairs."""

from collections.abc import Iterable, Mapping, Sequence
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


def examine_pairs(
    metric: str, members: Mapping[str, Sequence[TrainingRun]], results: Results
) -> tuple[pd.DataFrame, list[str]]:
    """Whether each pair differs, and the labels of those that cannot be tested.

    Accuracy is tested on the images: by a bootstrap over images and seeds where both were repeated, otherwise by
    McNemar's test of the newest run of each. Other metrics are tested over seeds, by Welch's test; those that mean
    another thing for a detector, not between it and a classifier.
    """
    from pipeline.comparison import stats

    columns = ["first", "second", "difference", "test", "p_value"]
    rows: list[tuple] = []
    untested: list[str] = []
    values = {label: known_values(runs, metric) for label, runs in members.items()}
    means = {label: float(np.mean(found)) for label, found in values.items()}
    if metric == "accuracy" and len(members) > 1:
        known = {label: wrong_predictions(runs, results) for label, runs in members.items()}
        untested = [label for label, found in known.items() if found is None]
        wrong = {label: found for label, found in known.items() if found is not None}
        # Answers to another number of images are not those to the test images.
        images = max((found.shape[1] for found in wrong.values()), default=0)
        untested += [label for label, found in wrong.items() if found.shape[1] != images]
        wrong = {label: found for label, found in wrong.items() if found.shape[1] == images}
        repeated = {label: found for label, found in wrong.items() if len(found) > 1}
        drawn = dict(zip(repeated, stats.resample(list(repeated.values())) if repeated else (), strict=True))
        for first, second in combinations(wrong, 2):
            if first in drawn and second in drawn:
                test = "bootstrap"
                p_value = stats.bootstrap_p_value(wrong[first], wrong[second], drawn[first] - drawn[second])
            else:
                test, p_value = "McNemar", stats.mcnemar(wrong[first][0], wrong[second][0])
            rows.append((first, second, means[first] - means[second], test, p_value))
    elif metric not in CONSTANT:
        several = {label: found for label, found in values.items() if len(found) > 1}
        for first, second in combinations(several, 2):
            if metric in OF_SCORES and is_detector(members[first]) is not is_detector(members[second]):
                continue
            p_value = stats.welch(several[first], several[second])
            rows.append((first, second, means[first] - means[second], "Welch", p_value))
    pairs = pd.DataFrame(rows, columns=columns)
    return pairs.assign(p_holm=stats.holm(pairs["p_value"])), untested


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
