"""What a report draws of the trainings under one protocol, a section each."""

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.comparison import charts, tables, tuning
from pipeline.comparison.compare import Comparison
from pipeline.comparison.pairs import MAX_TESTED, SIGNIFICANT
from pipeline.data import pictures
from pipeline.data.corruptions import CORRUPTIONS, IMAGES
from pipeline.metrics.catalog import HIGHER_IS_BETTER, PERCENT
from pipeline.tracking.schema import CORRUPTED, EARLIER_CORRUPTED, ERRORS
from pipeline.tracking.training_run import Results, TrainingRun

# More architectures than these would not be told apart in a drawing.
MAX_DRAWN = 12
HARD_IMAGES = 24
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
    """Every score with its interval."""
    metric, best = group.metric, group.drawn[group.metric].agg("max" if group.higher else "min")
    figure = charts.forest(group.drawn, metric, name=f"test {metric}", share=group.share, best=best)
    numbers = group.listing(metric, "low", "high", form=metric)
    drawn = f" Drawn are the best {len(group.drawn)} of {len(group.drawn) + group.left_out:,}."
    return Section(
        "How sure the scores are",
        "The point is the mean, the bar its 95 % interval; the dotted line marks the best."
        + (drawn if group.left_out else ""),
        [Drawing("forest", figure, f"Test {metric} and its 95 % interval.", numbers)],
    )


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
    """Which pairs differ."""
    labels, found = group.labels, group.comparison.pairs
    found = found[(found["protocol"] == group.key) & found["first"].isin(labels) & found["second"].isin(labels)]
    matrix = pd.DataFrame(np.nan, index=labels, columns=labels)
    for pair in found.itertuples():
        matrix.loc[pair.first, pair.second] = matrix.loc[pair.second, pair.first] = pair.p_holm
    differing = (found["p_holm"] < SIGNIFICANT).sum()
    if len(found) and not differing:
        least = tables.p_text(found["p_holm"].min()).removeprefix("p = ")
        nobody = f"None of the {len(found)} pairs differs: the least p-value, corrected by Holm, is {least}."
        return Section("Who differs from whom", nobody, [], needs_drawings=False)
    told = "; ".join(f"{pair.first} and {pair.second}: {tables.p_text(pair.p_holm)}" for pair in found.itertuples())
    caption = f"{differing} of {len(found)} pairs differ." if len(found) else "No pair could be tested."
    return Section(
        "Who differs from whom",
        "p-values of all pairs, corrected by Holm; a filled cell is a difference that chance hardly makes (p below "
        f"{SIGNIFICANT}).",
        [Drawing("pairs", charts.p_values(matrix, SIGNIFICANT), caption, told)] if len(labels) > 1 else [],
    )


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


def predictions_of(runs: Sequence[TrainingRun], results: Results) -> list[pd.DataFrame]:
    """What the trainings of one architecture answered, of those whose answers are at hand."""
    return [found for run in runs[:MAX_TESTED] if (found := results.predictions(run)) is not None]


def confusion_matrix(answers: Sequence[pd.DataFrame], label: str) -> tuple[Figure, str]:
    """The confusion matrix over all seeds of an architecture, and its most frequent error."""
    outcomes = [name.removeprefix("probability_") for name in answers[0].columns if name.startswith("probability_")]
    positions = {name: position for position, name in enumerate(outcomes)}
    counts = np.zeros((len(outcomes), len(outcomes)), int)
    for found in answers:
        np.add.at(counts, (found["target"].map(positions), found["prediction"].map(positions)), 1)
    # A detector may answer what no image is.
    present = [position for position in range(len(outcomes)) if counts[position].any()]
    errors = counts * (1 - np.eye(len(outcomes), dtype=int))
    row, column = np.unravel_index(errors.argmax(), errors.shape)
    often = f"; most often {outcomes[row]} for {outcomes[column]}, {errors[row, column]} times"
    most = often if errors.max() > 1 else ""
    wrong = f"{errors.sum():,} error{'' if errors.sum() == 1 else 's'}"
    caption = f"{label}: {wrong} in {counts.sum():,} answers{most}."
    return charts.confusion(counts[: max(present) + 1], outcomes, label), caption


def by_class(group: Group) -> list[dict[str, Any]]:
    """For each class, how many test images there are of it and what share of them each architecture answers right."""
    right = {}
    for label, answers in group.answers.items():
        answered = pd.concat(answers)
        right[label] = (answered["target"] == answered["prediction"]).groupby(answered["target"], sort=False).mean()
    counts = next(iter(group.answers.values()))[0]["target"].value_counts() if right else {}
    least = {label: shares.min() for label, shares in right.items()}
    return [
        {
            "name": name,
            "images": f"{counts[name]:,}",
            "shares": [
                (f"{100 * shares[name]:.1f}", shares[name] == least[label] < 1) for label, shares in right.items()
            ],
        }
        for name in sorted(counts.keys(), key=natural)
    ]


def natural(name: str) -> tuple[int, str]:
    """Sorts numbers by size, before words."""
    return (int(name), "") if name.isdecimal() else (1 << 60, name)


def hard_images(group: Group) -> list[dict[str, Any]]:
    """The test images that most architectures get wrong, those of most errors first."""
    first = {label: found[0] for label, found in group.answers.items()}
    wrong = np.array([(table["target"] != table["prediction"]).to_numpy() for table in first.values()])
    counts = wrong.sum(0)
    candidates = np.flatnonzero(2 * counts > len(wrong))
    candidates = candidates[np.argsort(-counts[candidates], kind="stable")][:HARD_IMAGES]
    kept_images: dict[int, np.ndarray] = {}
    for run in group.newest.values():
        if not set(candidates) <= set(kept_images) and (content := group.results.artifact(run, ERRORS)):
            with np.load(io.BytesIO(content), allow_pickle=False) as kept:
                kept_images |= {int(index): image for index, image in zip(kept["index"], kept["images"], strict=True)}
    targets = next(iter(first.values()))["target"]
    found = []
    for index in candidates:
        if int(index) in kept_images:
            said = {label: table["prediction"][index] for label, table in first.items()}
            by_answer: dict[str, list[str]] = {}
            for label, answer in said.items():
                by_answer.setdefault(answer, []).append(label)
            text = "; ".join(f"{answer} by {', '.join(by)}" for answer, by in by_answer.items())
            found.append(
                {
                    "source": pictures.data_uri(255 - kept_images[int(index)]),
                    "alternative": f"A picture of {targets[index]}, taken for {text}.",
                    "index": f"{index:,}",
                    "target": targets[index],
                    "wrong": counts[index],
                    "of": len(wrong),
                    "answers": ", ".join(answer for answer in by_answer if answer != targets[index]),
                }
            )
    return found
