"""Whether it holds on other data, too: the ranks of the same architectures on several data sets.

Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", Journal of Machine Learning Research 7, 2006;
Benavoli, Corani, Demšar, Zaffalon, "Time for a Change: a Tutorial for Comparing Multiple Classifiers Through Bayesian
Analysis", Journal of Machine Learning Research 18, 2017.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from pipeline.comparison.judging.pairs import SIGNIFICANT
from pipeline.comparison.judging.verdicts import letters, p_text
from pipeline.metrics.catalog import HIGHER_IS_BETTER, within

# Draws from what is believed of a difference: 0.5 % is then known to 0.1 %.
DRAWS = 10_000


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
        margin: how far two may be apart on a data set and be as good as equal, the largest of theirs; None: not said.
        practice: by Bayes' signed-rank test, how probable it is that the first is better than each of the others by
            more than the margin, equivalent to it, or worse.
    """

    scores: pd.DataFrame
    ranks: pd.Series
    letters: pd.Series
    p_value: float
    critical: float
    left_out: Sequence[str]
    margin: float | None
    practice: pd.DataFrame


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
    margins = [rows["margin"].max() for _, rows in groups if rows["margin"].notna().any()]
    margin = float(max(margins)) if margins else None
    return OverDatasets(
        scores=common,
        ranks=ranks,
        letters=pd.Series(letters(list(ranks.index), different)),
        p_value=p_value,
        critical=float(critical),
        left_out=[*scores.index.difference(common.index)],
        margin=margin,
        practice=in_practice(common if metric in HIGHER_IS_BETTER else -common, margin or 0.0),
    )


def in_practice(scores: pd.DataFrame, margin: float) -> pd.DataFrame:
    """How probable it is that the first is better than each of the others, equivalent and worse: a row each.

    Args:
        scores: a row an architecture, a column a data set; higher is better.
    """
    from baycomp import SignedRankTest

    leader, others = scores.iloc[0].to_numpy(), scores.iloc[1:]
    rows = [
        SignedRankTest.probs(leader, other.to_numpy(), rope=margin, nsamples=DRAWS, random_state=0)
        for _, other in others.iterrows()
    ]
    if not margin:
        rows = [(better, 0.0, worse) for better, worse in rows]
    return pd.DataFrame(rows, index=others.index, columns=["better", "equivalent", "worse"], dtype=float)


def in_words(over: OverDatasets, metric: str) -> str:
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
    apart = "" if over.margin is None else f" by more than {within(metric, over.margin)}"
    others = [
        f"than {label} {row.better:.0%}" + (f" (equivalent {row.equivalent:.0%})" if over.margin else "")
        for label, row in over.practice.iterrows()
    ]
    said += f" By Bayes' signed-rank test, how probable it is that {over.ranks.index[0]} is better{apart}: "
    said += f"{'; '.join(others)}."
    if over.left_out:
        said += f" Not on every data set, so left out: {', '.join(over.left_out)}."
    return said
