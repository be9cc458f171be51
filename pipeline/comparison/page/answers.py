"""What architectures answered to the test images: what is taken for what, class by class, and what is hard for most."""

import io
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from pipeline.comparison.judging import votes
from pipeline.comparison.judging.pairs import MAX_TESTED
from pipeline.comparison.page import charts
from pipeline.data import pictures
from pipeline.tracking.schema import ERRORS
from pipeline.tracking.training_run import Results, TrainingRun

HARD_IMAGES = 24


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


def by_class(answers: Mapping[str, Sequence[pd.DataFrame]]) -> list[dict[str, Any]]:
    """For each class, how many test images there are of it and what share of them each architecture answers right."""
    right = {}
    for label, found in answers.items():
        answered = pd.concat(found)
        right[label] = (answered["target"] == answered["prediction"]).groupby(answered["target"], sort=False).mean()
    counts = next(iter(answers.values()))[0]["target"].value_counts() if right else {}
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


def doubted(
    answers: Mapping[str, Sequence[pd.DataFrame]], newest: Mapping[str, TrainingRun], results: Results
) -> list[int]:
    """The test images whose labels may be wrong: all architectures agree on another class and are confident of it.

    Confident is who gives a class at least the probability that images of this class get on average: Northcutt, Jiang
    and Chuang, "Confident learning", JAIR 2021, arXiv:1911.00068; Northcutt, Athalye and Mueller, "Pervasive label
    errors in test sets destabilize machine learning benchmarks", NeurIPS 2021, arXiv:2103.14749.
    """
    together = votes.answers([newest[label] for label in answers], results) if len(answers) > 1 else None
    if together is None:
        return []
    probabilities, targets = together
    said = np.array([found[0]["prediction"].to_numpy() for found in answers.values()])
    agreed = (said == said[0]).all(0) & (said[0] != next(iter(answers.values()))[0]["target"].to_numpy())
    usual = np.array(
        [
            probabilities[targets == number, number].mean() if (targets == number).any() else np.inf
            for number in range(probabilities.shape[1])
        ]
    )
    best = probabilities.argmax(1)
    return [int(place) for place in np.flatnonzero(agreed & (probabilities.max(1) >= usual[best]))]


def natural(name: str) -> tuple[int, str]:
    """Sorts numbers by size, before words."""
    return (int(name), "") if name.isdecimal() else (1 << 60, name)


def hard_images(
    answers: Mapping[str, Sequence[pd.DataFrame]],
    newest: Mapping[str, TrainingRun],
    results: Results,
    suspected: Collection[int],
) -> list[dict[str, Any]]:
    """The test images that most architectures get wrong, those of most errors first.

    Args:
        suspected: which of all may have a wrong label.
    """
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
                    "doubted": int(index) in suspected,
                    "wrong": counts[index],
                    "of": len(wrong),
                    "answers": ", ".join(answer for answer in by_answer if answer != targets[index]),
                }
            )
    return found
