"""Whether two architectures differ: what each training predicted, and the tests of all pairs."""

from collections.abc import Callable, Iterable, Mapping
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from pipeline.metrics.catalog import CONSTANT, LOGGED, OF_SCORES

SIGNIFICANT = 0.05
# Of more trainings of one architecture these are enough to tell it from another.
MAX_TESTED = 20
# What a training predicted for the test images: columns target and prediction, None where it is not at hand.
Predictions = Callable[[Mapping[str, Any]], pd.DataFrame | None]


def read_once(predictions: Predictions) -> Predictions:
    """The same, but keeping what was read: tests and report then share it."""
    kept: dict[tuple[str, str], pd.DataFrame | None] = {}

    def read(training: Mapping[str, Any]) -> pd.DataFrame | None:
        place = (str(training.get("store")), training["run_id"])
        if place not in kept:
            kept[place] = predictions(training)
        return kept[place]

    return read


def known_values(runs: Iterable[Mapping[str, Any]], metric: str) -> list[float]:
    """A metric of those trainings that have it."""
    return [run[LOGGED[metric]] for run in runs if pd.notna(run[LOGGED[metric]])]


def examine_pairs(
    metric: str, members: Mapping[str, list[dict]], predictions: Predictions
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
        known = {label: wrong_predictions(runs, predictions) for label, runs in members.items()}
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


def is_detector(runs: list[dict]) -> bool:
    """Whether these trainings have what only detectors have."""
    return pd.notna(runs[0][LOGGED["map"]])


def wrong_predictions(runs: Iterable[dict], predictions: Predictions) -> np.ndarray | None:
    """Which test images each training answered wrong, bool (seeds, N); None where one's answers are not at hand."""
    found: list[np.ndarray] = []
    for run in list(runs)[:MAX_TESTED]:
        table = predictions(run)
        if table is None or (found and len(table) != len(found[0])):
            return None
        found.append((table["target"] != table["prediction"]).to_numpy())
    return np.array(found)
