"""Whether it holds on other data, too: the ranks of the same architectures on several data sets.

Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", Journal of Machine Learning Research 7, 2006;
Benavoli, Corani, Demšar, Zaffalon, "Time for a Change: a Tutorial for Comparing Multiple Classifiers Through Bayesian
Analysis", Journal of Machine Learning Research 18, 2017.
"""

from collections.abc import Mapping, Sequence
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
        p_value: of Friedman's test that all are equally good, of two of Wilcoxon's signed-rank test.
        critical: how far two mean ranks must be apart to tell the two apart, by Nemenyi's test; not a number for two.
        left_out: architectures that lack one of the data sets.
        limit: how many training images there were of each data set; 0: all.
        otherwise: data sets that were trained on with other limits only.
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
    limit: int
    otherwise: Sequence[str]
    margin: float | None
    practice: pd.DataFrame


def over_datasets(
    groups: Sequence[tuple[str, pd.DataFrame]], metric: str, limits: Mapping[str, int] | None = None
) -> OverDatasets | None:
    """The architectures of several data sets, of each the protocol with the most trainings; None where there is one.

    Args:
        groups: as `Comparison.groups` gives them.
        limits: by protocol, how many training images there were, 0 for all. One limit is that of all data sets: the one
            that most of them have, all images before the most.
    """
    found: dict[int, dict[str, pd.DataFrame]] = {}
    for key, rows in groups:
        of_limit = found.setdefault((limits or {}).get(key, 0), {})
        of_limit.setdefault(", ".join(sorted(rows["dataset"].unique())), rows)
    if not found:
        return None
    limit = max(found, key=lambda limit: (len(found[limit]), not limit, limit))
    otherwise = [name for sets in found.values() for name in sets if name not in found[limit]]
    scores = pd.DataFrame({name: rows.set_index("label")[metric] for name, rows in found[limit].items()})
    common = scores.dropna()
    if len(scores.columns) < 2 or len(common) < 2:
        return None
    # Only where there is something to compute: it takes long to import.
    from scipy.stats import friedmanchisquare, studentized_range, wilcoxon

    ranks = common.rank(ascending=metric not in HIGHER_IS_BETTER).mean(axis=1).sort_values(kind="stable")
    common = common.loc[ranks.index]
    count, number = common.shape
    if count > 2:
        p_value = float(friedmanchisquare(*common.to_numpy()).pvalue)
        critical = studentized_range.ppf(1 - SIGNIFICANT, count, np.inf) / np.sqrt(2)
        critical *= np.sqrt(count * (count + 1) / (6 * number))
    else:
        # Of two, ranks lose how large the differences are.
        differences = common.iloc[0] - common.iloc[1]
        p_value, critical = float(wilcoxon(differences).pvalue) if differences.any() else 1.0, np.nan
    different = {
        frozenset((first, second))
        for first, second in combinations(ranks.index, 2)
        if p_value < SIGNIFICANT and (count == 2 or abs(ranks[first] - ranks[second]) > critical)
    }
    margins = [rows["margin"].max() for rows in found[limit].values() if rows["margin"].notna().any()]
    margin = float(max(margins)) if margins else None
    return OverDatasets(
        scores=common,
        ranks=ranks,
        letters=pd.Series(letters(list(ranks.index), different)),
        p_value=p_value,
        critical=float(critical),
        left_out=[*scores.index.difference(common.index)],
        limit=limit,
        otherwise=list(dict.fromkeys(otherwise)),
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


def ranked_on(over: OverDatasets) -> str:
    """What the ranks are of."""
    size = f", {over.limit:,} training images of each" if over.limit else ""
    return f"Over {len(over.scores.columns)} data sets{size}"


def in_words(over: OverDatasets, metric: str) -> str:
    """What the ranks say."""
    count, number = over.scores.shape
    said = f"{ranked_on(over)}: "
    test = "Friedman's test that all are" if count > 2 else "Wilcoxon's signed-rank test that both are"
    said += f"{test} equally good: {p_text(over.p_value)}. "
    first, *_, last = over.letters[over.ranks.index]
    if set(first) & set(last):
        said += "No two can be told apart"
        # However they differ.
        hopeless = over.critical >= count - 1 if count > 2 else 2 / 2**number >= SIGNIFICANT
        said += "; of so few data sets nothing else can come." if hopeless else "."
    elif count == 2:
        said += "The two are told apart."
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
    if over.otherwise:
        said += f" With other numbers of training images, so left out: {', '.join(over.otherwise)}."
    if over.left_out:
        said += f" Not on every data set, so left out: {', '.join(over.left_out)}."
    return said
