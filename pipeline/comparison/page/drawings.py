"""What a report draws of the trainings under one protocol, a section each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.comparison import tables, tuning
from pipeline.comparison.compare import Comparison
from pipeline.comparison.judging.datasets import OverDatasets, in_words, ranked_on
from pipeline.comparison.judging.pairs import SIGNIFICANT
from pipeline.comparison.judging.verdicts import p_text
from pipeline.comparison.page import charts
from pipeline.comparison.page.answers import confusion_matrix, predictions_of
from pipeline.comparison.sizes import OverSizes
from pipeline.comparison.sizes import in_words as size_words
from pipeline.data.corruptions import CORRUPTIONS, IMAGES
from pipeline.metrics.catalog import HIGHER_IS_BETTER, PERCENT
from pipeline.tracking.schema import CORRUPTED, EARLIER_CORRUPTED

# More architectures than these would not be told apart in a drawing.
MAX_DRAWN = 12
# From here on one training is nearly always better than the other.
LIKELY = 0.95
COSTS = {
    "train_s": "training and validation, s",
    "latency_p50_ms": "time to answer one image, ms",
    "parameters": "parameters",
}


class Group:
    """The trainings under one protocol, as far as they are drawn.

    Attributes:
        drawn: the best rows, in the table's order.
        trainings: of each row drawn, newest first; `newest` the first of each.
        answers: what the trainings of each row answered, of those whose answers are at hand.
    """

    def __init__(self, comparison: Comparison, key: str, rows: pd.DataFrame) -> None:
        self.comparison, self.key, self.metric, self.results = comparison, key, comparison.metric, comparison.results
        self.higher = self.metric in HIGHER_IS_BETTER
        self.share = self.metric in PERCENT and self.higher
        ranked = rows[rows[self.metric].notna()].sort_values(self.metric, ascending=not self.higher, kind="stable")
        self.drawn = rows.loc[sorted(ranked.index[:MAX_DRAWN])]
        self.left_out = len(rows) - len(self.drawn)
        self.labels = list(self.drawn["label"])
        self.trainings = {label: comparison.members[key, label] for label in self.labels}
        self.newest = {label: runs[0] for label, runs in self.trainings.items()}
        answers = {label: predictions_of(runs, self.results) for label, runs in self.trainings.items()}
        self.answers = {label: found for label, found in answers.items() if found}

    def series(self, name: str) -> dict[str, dict[int, float]]:
        """A metric of the newest training of each, by step, of those that have it."""
        found = {label: self.results.series(run, name) for label, run in self.newest.items() if run.has(name)}
        return {label: curve for label, curve in found.items() if curve}

    def listing(self, *names: str, form: str = "") -> str:
        """The numbers of a drawing for those who cannot see it, each in the form of its column or of another."""

        def numbers(row: Mapping[str, Any]) -> str:
            return " / ".join(tables.number(form or name, row[name]) or "unknown" for name in names)

        return "; ".join(f"{row['label']} {numbers(row)}" for row in self.drawn.to_dict("records")) + "."


@dataclass(frozen=True)
class Drawing:
    """A drawing, its name in the section, its caption, and the numbers in it for those who cannot see it."""

    name: str
    figure: Figure
    caption: str
    numbers: str = ""


@dataclass(frozen=True)
class Section:
    """A heading of the page, what is said below it, and the drawings; without any it is left out.

    Attributes:
        small: whether many of them stand side by side.
        needs_drawings: whether the text says nothing without them.
    """

    heading: str
    text: str
    drawings: Sequence[Drawing]
    small: bool = False
    needs_drawings: bool = True


def intervals(group: Group) -> Section:
    """Every score with its interval, and how far each is behind the best."""
    metric, rows = group.metric, group.drawn
    figure = charts.forest(
        rows, metric, name=f"test {metric}", share=group.share, best=rows[metric].agg("max" if group.higher else "min")
    )
    numbers = group.listing(metric, "low", "high", form=metric)
    drawings = [Drawing("forest", figure, f"Test {metric} and its 95 % interval.", numbers)]
    if rows["gap_low"].notna().any():
        margin = rows["margin"].iloc[0]
        unit = ", percentage points" if metric in PERCENT else ""
        name = f"{metric} behind the best{unit}"
        figure = charts.differences(rows, name=name, scale=100 if metric in PERCENT else 1, margin=margin)
        within = f"; grey: the margin of {tables.within(metric, margin)}" if margin else ""
        told = "; ".join(f"{row['label']} {tables.verdict(metric, row)}" for row in rows.to_dict("records"))
        caption = f"How far behind the best, with 95 % confidence for all pairs at once{within}."
        drawings.append(Drawing("differences", figure, caption, f"{told}."))
    drawn = f" Drawn are the best {len(rows)} of {len(rows) + group.left_out:,}."
    return Section(
        "How sure the scores are",
        "The point is the mean, the bar its interval; the dotted line marks the best. Two intervals may overlap and "
        "their difference be sure all the same, as both are of the same images." + (drawn if group.left_out else ""),
        drawings,
    )


def over_datasets(over: OverDatasets, metric: str) -> Section:
    """The mean rank of each architecture over several data sets."""
    figure = charts.ranks(over.ranks, over.critical)
    numbers = "; ".join(f"{label} {rank:.2f}" for label, rank in over.ranks.items()) + "."
    caption = "Mean rank over the data sets, 1 the best on each."
    if len(over.ranks) > 2:
        caption += (
            f" If Friedman's test finds any difference, two whose bars, {over.critical:.2f} long, do not overlap are "
            "told apart (Nemenyi's test, 95 % for all pairs at once)."
        )
    return Section(ranked_on(over), in_words(over, metric), [Drawing("ranks", figure, caption, numbers)])


def over_sizes(over: OverSizes, metric: str) -> Section:
    """The metric over the number of training images."""
    share = metric in PERCENT and metric in HIGHER_IS_BETTER
    series = {label: row.dropna().to_dict() for label, row in over.scores.iterrows()}
    figure = charts.curves(
        series, list(series), x="training images", y=f"test {metric}", share=share, log=True, log_errors=share
    )
    numbers = "; ".join(
        f"{label} " + ", ".join(f"{tables.number(metric, value)} with {size:,}" for size, value in curve.items())
        for label, curve in series.items()
    )
    caption = f"Test {metric} on {over.dataset} by the number of training images, the mean over seeds."
    heading = f"By training images: {over.dataset}"
    return Section(heading, size_words(over, metric), [Drawing("sizes", figure, caption, f"{numbers}.")])


def cost(group: Group) -> Section:
    """The score against what it costs to train, to answer and to keep."""
    metric, drawings = group.metric, []
    for name, text in COSTS.items():
        if group.drawn[name].notna().sum() > 1:
            names = (f"test {metric}", text)
            figure = charts.trade_off(group.drawn, metric, name, names=names, share=group.share, higher=group.higher)
            caption = f"Test {metric} against {text}."
            drawings.append(Drawing(f"cost-{name}", figure, caption, group.listing(metric, name)))
    return Section(
        "What accuracy costs",
        f"{'Up' if group.higher else 'Down'} and to the left is better. The dotted line joins those that nothing beats "
        "in both: the Pareto front. Bars are 95 % intervals.",
        drawings,
    )


def pairs(group: Group) -> Section:
    """Which pairs differ, and how likely a training of one is better than one of another."""
    labels, found = group.labels, group.comparison.pairs
    found = found[(found["protocol"] == group.key) & found["first"].isin(labels) & found["second"].isin(labels)]
    p_values, improvement = (pd.DataFrame(np.nan, index=labels, columns=labels) for _ in range(2))
    for pair in found.itertuples():
        p_values.loc[pair.first, pair.second] = p_values.loc[pair.second, pair.first] = pair.p_adjusted
        improvement.loc[pair.first, pair.second] = pair.improvement
        improvement.loc[pair.second, pair.first] = 1 - pair.improvement
    drawings = []
    differing = (found["p_adjusted"] < SIGNIFICANT).sum()
    if differing:
        text = (
            "p-values of all pairs, adjusted for their number; a filled cell is a difference that chance hardly makes "
            f"(p below {SIGNIFICANT})."
        )
        told = "; ".join(f"{pair.first} and {pair.second}: {p_text(pair.p_adjusted)}" for pair in found.itertuples())
        figure = charts.probabilities(p_values, filled=p_values < SIGNIFICANT, digits=3)
        drawings.append(Drawing("pairs", figure, f"{differing} of {len(found)} pairs differ.", told))
    elif len(found):
        least = p_text(found["p_adjusted"].min()).removeprefix("p = ")
        text = f"None of the {len(found)} pairs differs beyond chance: the least adjusted p-value is {least}."
    else:
        text = "No pair could be tested."
    if found["improvement"].notna().any():
        caption = "How likely one training of the row is better than one of the column; filled from .95 on."
        told = "; ".join(
            f"{pair.first} than {pair.second}: {pair.improvement:.2f}"
            for pair in found.itertuples()
            if not np.isnan(pair.improvement)
        )
        figure = charts.probabilities(improvement, filled=improvement >= LIKELY, digits=2)
        drawings.append(Drawing("improvement", figure, caption, told))
    return Section("Who differs from whom", text, drawings, needs_drawings=not len(found))


def learning(group: Group) -> Section:
    """Accuracy on validation images over seconds and over epochs, and loss over epochs."""
    return Section(
        "How they learned",
        "On the validation images, epoch by epoch, of the newest training of each architecture.",
        list(learning_curves(group)),
    )


def learning_curves(group: Group) -> Iterator[Drawing]:
    """The drawings of `learning`."""
    accuracy, loss, seconds = (group.series(name) for name in ("val/accuracy", "val/loss", "time/epoch_s"))
    if not accuracy or not loss:
        return
    over_time = {
        label: dict(zip(np.cumsum(list(seconds[label].values())), curve.values(), strict=False))
        for label, curve in accuracy.items()
    }
    shown = "validation accuracy"
    ends = "; ".join(f"{label} {list(curve.values())[-1]:.2%}" for label, curve in accuracy.items())
    figure = charts.curves(
        over_time, group.labels, x="seconds of training and validation", y=shown, share=True, log=True, log_errors=True
    )
    yield Drawing("learning-time", figure, "Accuracy over time.", f"At the end: {ends}.")
    figure = charts.curves(accuracy, group.labels, x="epoch", y=shown, share=True, log_errors=True)
    yield Drawing("learning-epochs", figure, "Accuracy over epochs.", f"At the end: {ends}.")
    ends = "; ".join(f"{label} {list(curve.values())[-1]:.4f}" for label, curve in loss.items())
    figure = charts.curves(loss, group.labels, x="epoch", y="validation loss, nats", share=False)
    yield Drawing("learning-loss", figure, "Loss over epochs.", f"At the end: {ends}.")


def corruption(group: Group) -> Section:
    """Accuracy over the severity of each corruption."""
    drawings = []
    for name in CORRUPTIONS:
        if curves := group.series(f"{EARLIER_CORRUPTED}{name}") | group.series(f"{CORRUPTED}{name}"):
            text = name.replace("_", " ")
            worst = "; ".join(f"{label} {list(curve.values())[-1]:.1%}" for label, curve in curves.items())
            figure = charts.curves(curves, group.labels, x=f"severity of {text}", y="test accuracy", share=True)
            drawings.append(Drawing(name, figure, f"{text.capitalize()}.", f"At its worst: {worst}."))
    return Section(
        "On images made worse",
        f"Accuracy on up to {IMAGES} test images, at severity 0 as they are; the newest training of each.",
        drawings,
        small=True,
    )


def confusion(group: Group) -> Section:
    """The confusion matrix of each architecture."""
    drawings = [
        Drawing(f"confusion-{position}", *confusion_matrix(found, label))
        for position, (label, found) in enumerate(group.answers.items())
    ]
    text = "Test images, all seeds together: row the truth, column the answer, errors coloured."
    return Section("What is taken for what", text, drawings, small=True)


def tuned(group: Group) -> Section:
    """What searches for the recipes brought."""
    drawings = []
    if curves := tuning.expected_accuracy(group.newest):
        figure = charts.curves(curves, group.labels, x="trials", y="expected best validation accuracy", share=True)
        ends = "; ".join(f"{label} {list(curve.values())[-1]:.2%}" for label, curve in curves.items())
        drawings.append(Drawing("tuning", figure, "Expected best accuracy over trials.", f"Of all: {ends}."))
    return Section(
        "What tuning brought",
        "The best accuracy on validation that so many trials are expected to reach, drawn at random from those of the "
        f"search (Dodge et al., 2019). {tuning.in_words(group.newest)}",
        drawings,
    )


# A section of the page is its function here; its place in this list is its place on the page.
SECTIONS = [intervals, cost, pairs, learning, tuned, corruption, confusion]
