"""What a report draws: each drawing with its caption, and the numbers in it for those who cannot see it."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.comparison import charts, tables
from pipeline.comparison.compare import Comparison
from pipeline.comparison.pairs import MAX_TESTED, SIGNIFICANT
from pipeline.data import pictures
from pipeline.data.corruptions import CORRUPTIONS
from pipeline.tracking.schema import ERRORS
from pipeline.tracking.training_run import Results, TrainingRun

HARD_IMAGES = 24
# A drawing's name, the drawing, its caption, and the numbers in it for those who cannot see it.
Drawing = tuple[str, Figure, str, str]


def listing(rows: pd.DataFrame, *names: str, form: str = "") -> str:
    """The numbers of a drawing for those who cannot see it, each in the form of its column or of another."""

    def numbers(row: Mapping[str, Any]) -> str:
        return " / ".join(tables.number(form or name, row[name]) or "unknown" for name in names)

    return "; ".join(f"{row['label']} {numbers(row)}" for row in rows.to_dict("records")) + "."


def p_value_matrix(comparison: Comparison, key: str, labels: Sequence[str]) -> tuple[Figure, str, str]:
    """The matrix of corrected p-values, a caption and which pairs differ."""
    matrix = pd.DataFrame(np.nan, index=list(labels), columns=list(labels))
    pairs = comparison.pairs[comparison.pairs["protocol"] == key]
    pairs = pairs[pairs["first"].isin(labels) & pairs["second"].isin(labels)]
    for pair in pairs.itertuples():
        matrix.loc[pair.first, pair.second] = matrix.loc[pair.second, pair.first] = pair.p_holm
    found = pairs[pairs["p_holm"] < SIGNIFICANT]
    told = "; ".join(f"{pair.first} and {pair.second}: {tables.p_text(pair.p_holm)}" for pair in pairs.itertuples())
    caption = f"{len(found)} of {len(pairs)} pairs differ." if len(pairs) else "No pair could be tested."
    return charts.p_values(matrix, SIGNIFICANT), caption, told


def learning(newest: Mapping[str, TrainingRun], results: Results, labels: Sequence[str]) -> Iterator[Drawing]:
    """Accuracy on validation images over seconds and over epochs, and loss over epochs."""

    def histories(name: str) -> dict[str, dict[int, float]]:
        return {label: results.series(run, name) for label, run in newest.items()}

    accuracy = {label: curve for label, curve in histories("val/accuracy").items() if curve}
    loss = {label: curve for label, curve in histories("val/loss").items() if curve}
    if not accuracy or not loss:
        return
    seconds = histories("time/epoch_s")
    over_time = {
        label: dict(zip(np.cumsum(list(seconds[label].values())), curve.values(), strict=False))
        for label, curve in accuracy.items()
    }
    shown = "validation accuracy"
    ends = "; ".join(f"{label} {list(curve.values())[-1]:.2%}" for label, curve in accuracy.items())
    figure = charts.curves(
        over_time, labels, x="seconds of training and validation", y=shown, share=True, log=True, log_errors=True
    )
    yield "learning-time", figure, "Accuracy over time.", f"At the end: {ends}."
    figure = charts.curves(accuracy, labels, x="epoch", y=shown, share=True, log_errors=True)
    yield "learning-epochs", figure, "Accuracy over epochs.", f"At the end: {ends}."
    ends = "; ".join(f"{label} {list(curve.values())[-1]:.4f}" for label, curve in loss.items())
    figure = charts.curves(loss, labels, x="epoch", y="validation loss, nats", share=False)
    yield "learning-loss", figure, "Loss over epochs.", f"At the end: {ends}."


def robustness(newest: Mapping[str, TrainingRun], results: Results, labels: Sequence[str]) -> Iterator[Drawing]:
    """Accuracy over the severity of each corruption: name, drawing, caption, numbers."""
    for name in CORRUPTIONS:
        key = f"corruption/{name}"
        curves = {label: results.series(run, key) for label, run in newest.items() if run.has(key)}
        if curves:
            text = name.replace("_", " ")
            worst = "; ".join(f"{label} {list(curve.values())[-1]:.1%}" for label, curve in curves.items())
            figure = charts.curves(curves, labels, x=f"severity of {text}", y="test accuracy", share=True)
            yield f"corruption-{name}", figure, f"{text.capitalize()}.", f"At its worst: {worst}."


def predictions_of(runs: Sequence[TrainingRun], results: Results) -> list[pd.DataFrame]:
    """What the trainings of one architecture answered, of those whose answers are at hand."""
    return [found for run in runs[:MAX_TESTED] if (found := results.predictions(run)) is not None]


def confusion(answers: Sequence[pd.DataFrame], label: str) -> tuple[Figure, str]:
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
    most = f"; most often {outcomes[row]} for {outcomes[column]}, {errors[row, column]} times" if errors.any() else ""
    caption = f"{label}: {errors.sum():,} errors in {counts.sum():,} answers{most}."
    return charts.confusion(counts[: max(present) + 1], outcomes, label), caption


def hard_images(
    answers: Mapping[str, Sequence[pd.DataFrame]], newest: Mapping[str, TrainingRun], results: Results
) -> list[dict[str, Any]]:
    """The test images that most architectures get wrong, those of most errors first."""
    first = {label: found[0] for label, found in answers.items()}
    wrong = np.array([(table["target"] != table["prediction"]).to_numpy() for table in first.values()])
    counts = wrong.sum(0)
    candidates = np.flatnonzero(2 * counts > len(wrong))
    candidates = candidates[np.argsort(-counts[candidates], kind="stable")][:HARD_IMAGES]
    kept_images: dict[int, np.ndarray] = {}
    for run in newest.values():
        if not set(candidates) <= set(kept_images) and (content := results.artifact(run, ERRORS)):
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
