"""Whether it holds on other data, too: the ranks of the same architectures on several data sets.

Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", Journal of Machine Learning Research 7, 2006.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.comparison.judging.pairs import SIGNIFICANT
from pipeline.comparison.judging.verdicts import letters, p_text
from pipeline.metrics.catalog import HIGHER_IS_BETTER


@dataclass(frozen=True)
class OverDatasets:
    """Architectures on several data sets, each of which counts for one observation.

    Attributes:
        scores: the metric; a row an architecture, the lowest mean rank first, a column a data set.
        ranks: the mean rank of each, 1 were it the best on every data set.
        letters: of each, of which those share one that were not told apart.
        p_value: of Friedman's test that all are equally good; not a number for two.
        critical: how far two mean ranks must be apart to tell the two apart, by Nemenyi's test.
        left_out: architectures that lack one of the data sets.
    """

    scores: pd.DataFrame
    ranks: pd.Series
    letters: pd.Series
    p_value: float
    critical: float
    left_out: Sequence[str]


def over_datasets(groups: Sequence[tuple[str, pd.DataFrame]], metric: str) -> OverDatasets | None:
    """The architectures of several data sets, of each the protocol with the most trainings; None where there is one.

    Args:
        groups: as `Comparison.groups` gives them.
    """
    columns: dict[str, pd.Series] = {}
    for _, rows in groups:
        columns.setdefault(", ".join(sorted(rows["dataset"].unique())), rows.set_index("label")[metric])
    scores = pd.DataFrame(columns)
    common = scores.dropna()
    if len(columns) < 2 or len(common) < 2:
        return None
    # Only where there is something to compute: it takes long to import.
    from scipy.stats import friedmanchisquare, studentized_range

    ranks = common.rank(ascending=metric not in HIGHER_IS_BETTER).mean(axis=1).sort_values(kind="stable")
    common = common.loc[ranks.index]
    count, number = common.shape
    p_value = float(friedmanchisquare(*common.to_numpy()).pvalue) if count > 2 else np.nan
    critical = studentized_range.ppf(1 - SIGNIFICANT, count, np.inf) / np.sqrt(2)
    critical *= np.sqrt(count * (count + 1) / (6 * number))
    different = {
        frozenset((first, second))
        for first, second in combinations(ranks.index, 2)
        if p_value < SIGNIFICANT and abs(ranks[first] - ranks[second]) > critical
    }
    found = pd.Series(letters(list(ranks.index), different))
    return OverDatasets(common, ranks, found, p_value, float(critical), [*scores.index.difference(common.index)])


def in_words(over: OverDatasets) -> str:
    """What the ranks say."""
    said = f"Over {len(over.scores.columns)} data sets: "
    if len(over.scores) > 2:
        said += f"Friedman's test that all are equally good: {p_text(over.p_value)}. "
    first, *_, last = over.letters[over.ranks.index]
    if set(first) & set(last):
        said += "No two can be told apart by their ranks; with few data sets nothing else can come of it."
    else:
        said += (
            f"Those whose mean ranks are more than {over.critical:.2f} apart are told apart (Nemenyi's test, 95 % for "
            "all pairs at once), the others share a letter."
        )
    if over.left_out:
        said += f" Not on every data set, so left out: {', '.join(over.left_out)}."
    return said
