"""What a difference and its interval are called: equivalent, better, worse, or undecided; and letters for groups."""

from collections.abc import Collection, Sequence
from string import ascii_letters
from typing import Literal

import numpy as np
import pandas as pd

from pipeline.comparison.judging.pairs import SIGNIFICANT
from pipeline.metrics.catalog import HIGHER_IS_BETTER, PERCENT

Verdict = Literal["best", "equivalent", "better", "worse", "undecided"]
# How far two accuracies may be apart and be as good as equal, unless one says otherwise: nearer to perfect, less.
USUAL_MARGIN, FINE_MARGIN, FINE_ABOVE = 0.005, 0.001, 0.99


def margin_of(metric: str, best: float, wanted: float | None) -> float | None:
    """How far two values of a metric may be apart and be as good as equal; None where that is not said.

    Args:
        best: the leader's value.
        wanted: in percentage points, of metrics that are no share in their own unit; None: the usual one, which only
            accuracy has.
    """
    if wanted is not None:
        return wanted / 100 if metric in PERCENT else wanted
    if metric != "accuracy":
        return None
    return FINE_MARGIN if best > FINE_ABOVE else USUAL_MARGIN


def verdict(low: float, high: float, p_value: float, margin: float | None, significant: float = SIGNIFICANT) -> Verdict:
    """What is known of how much better the first of two is.

    A difference within the margin is equivalent even where it is one beyond chance: Lakens, "Equivalence tests",
    Social Psychological and Personality Science 2017.

    Args:
        low, high: the interval of the difference, above 0 where the first is better.
        p_value: that there is none, which it must be below `significant` to tell.
    """
    if margin is not None and max(-low, high) <= margin:
        return "equivalent"
    if p_value >= significant:
        return "undecided"
    return "better" if low >= 0 else "worse"


def judge(
    table: pd.DataFrame, pairs: pd.DataFrame, metric: str, wanted: float | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The verdict on each row against the leader of its protocol, and on each pair, on its first.

    Returns:
        for the table, by its index: letters, verdict, gap_to_best with gap_low and gap_high, p_value, margin; the pairs
        with their verdict.
    """
    better = 1 if metric in HIGHER_IS_BETTER else -1
    numbers = dict.fromkeys(["gap_to_best", "gap_low", "gap_high", "p_value", "margin"], np.nan)
    judged = pd.DataFrame({"letters": "", "verdict": "", **numbers}, index=table.index)
    words: dict[int, Verdict] = {}
    for key, rows in table[table[metric].notna()].groupby("protocol"):
        leader = (better * rows[metric]).idxmax()
        margin = margin_of(metric, rows[metric][leader], wanted)
        judged.loc[rows.index, "gap_to_best"] = better * (rows[metric][leader] - rows[metric])
        judged.loc[rows.index, "margin"] = np.nan if margin is None else margin
        judged.loc[leader, "verdict"] = "best"
        row_of = {label: row for row, label in rows["label"].items()}
        own = pairs[pairs["protocol"] == key]
        for pair in own.itertuples():
            low, high = sorted((better * pair.low, better * pair.high))
            words[pair.Index] = verdict(low, high, pair.p_adjusted, margin)
            first, second = row_of[pair.first], row_of[pair.second]
            if leader not in (first, second):
                continue
            row, gap = (second, (low, high)) if leader == first else (first, (-high, -low))
            word = verdict(*gap, pair.p_adjusted, margin)
            named = "worse" if word == "better" else word
            judged.loc[row, ["verdict", "gap_low", "gap_high", "p_value"]] = [named, *gap, pair.p_adjusted]
        ranked = rows.loc[(-better * rows[metric]).sort_values(kind="stable").index, "label"]
        tested = set(own["first"]) | set(own["second"])
        different = {
            frozenset((pair.first, pair.second))
            for pair in own.itertuples()
            if words[pair.Index] in ("better", "worse")
        }
        for label, own_letters in letters([label for label in ranked if label in tested], different).items():
            judged.loc[row_of[label], "letters"] = own_letters
    # Better is not greater where less is better.
    improvement = pairs["improvement"] if better > 0 else 1 - pairs["improvement"]
    return judged, pairs.assign(verdict=pd.Series(words, dtype=object), improvement=improvement)


def letters(labels: Sequence[str], different: Collection[frozenset[str]]) -> dict[str, str]:
    """A compact letter display, by insertion and absorption: Piepho, "An algorithm for a letter-based representation of
    all-pairwise comparisons", Journal of Computational and Graphical Statistics 2004.

    Args:
        labels: the best first, whose group is called a.
        different: the pairs that were told apart.

    Returns:
        the letters of each; none where there are more groups than letters.
    """
    groups = [frozenset(labels)]
    for pair in different:
        parts = [part for group in groups for part in ([group - {one} for one in pair] if pair <= group else [group])]
        groups = [part for part in dict.fromkeys(parts) if not any(part < other for other in parts)]
    if len(groups) > len(ascii_letters):
        return dict.fromkeys(labels, "")
    place = {label: number for number, label in enumerate(labels)}
    ordered = sorted(groups, key=lambda group: sorted(place[label] for label in group))
    return {
        label: "".join(letter for letter, group in zip(ascii_letters, ordered, strict=False) if label in group)
        for label in labels
    }


def p_text(p_value: float) -> str:
    """A p-value to three digits."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
