"""Who is ahead with how many training images: trainings that differ in the protocol by nothing else."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import pandas as pd

from pipeline.metrics.catalog import HIGHER_IS_BETTER
from pipeline.names import short_hash

# So many crossings are told.
MOST_CROSSINGS = 5


@dataclass(frozen=True)
class OverSizes:
    """One data set with several numbers of training images.

    Attributes:
        scores: the metric; a row an architecture, the best with most images first, a column a number of images.
    """

    dataset: str
    scores: pd.DataFrame

    def crossings(self, metric: str) -> list[tuple[str, str, float]]:
        """Who is ahead below about how many images of whom is ahead above, between two sizes that were tried."""
        better = 1 if metric in HIGHER_IS_BETTER else -1
        found = []
        for above, below in combinations(self.scores.index, 2):
            ahead = better * (self.scores.loc[above] - self.scores.loc[below]).dropna()
            for smaller, larger in pairwise(ahead.index):
                if ahead[smaller] < 0 < ahead[larger]:
                    share = ahead[smaller] / (ahead[smaller] - ahead[larger])
                    found.append((below, above, float(np.exp(np.interp(share, [0, 1], np.log([smaller, larger]))))))
        return found


def over_sizes(
    groups: Sequence[tuple[str, pd.DataFrame]], protocols: Mapping[str, Mapping[str, Any]], metric: str
) -> list[OverSizes]:
    """Each data set that there are trainings of with several numbers of images.

    Args:
        groups: as `Comparison.groups` gives them.
        protocols: the fields of each.
    """
    alike: dict[str, dict[int, pd.DataFrame]] = {}
    for key, rows in groups:
        fields = {**protocols[key]}
        if size := fields.pop("training_images", None):
            alike.setdefault(short_hash(fields), {})[size] = rows
    found = []
    for sizes in alike.values():
        columns = {size: sizes[size].set_index("label")[metric] for size in sorted(sizes)}
        scores = pd.DataFrame(columns).dropna(thresh=2)
        if len(columns) > 1 and len(scores):
            order = (
                scores.ffill(axis=1).iloc[:, -1].sort_values(ascending=metric not in HIGHER_IS_BETTER, kind="stable")
            )
            names = ", ".join(sorted({name for rows in sizes.values() for name in rows["dataset"]}))
            found.append(OverSizes(names, scores.loc[order.index]))
    return found


def in_words(over: OverSizes, metric: str) -> str:
    """Where one overtakes another."""
    crossings = over.crossings(metric)
    told = [
        f"below about {float(f'{size:.2g}'):,.0f} training images {below} is ahead of {above}"
        for below, above, size in crossings[:MOST_CROSSINGS]
    ]
    more = f", and {len(crossings) - len(told)} more change places" if len(crossings) > len(told) else ""
    return f"{over.dataset}: {'; '.join(told) or 'the order is the same with every number of training images'}{more}."
