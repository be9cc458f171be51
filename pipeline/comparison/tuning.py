"""What was spent on searches for the recipes of trainings, and what that brought."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.tracking.schema import TUNING
from pipeline.tracking.training_run import TrainingRun

# Tuned so many times as much as another is worth a word.
UNEQUAL = 10
# So many fields of a recipe are named as those that mattered.
MATTERED = 3
BEFORE, AFTER = "own_accuracy", "val_accuracy"


def searches(newest: Mapping[str, TrainingRun]) -> dict[str, dict[str, Any]]:
    """What the runs say of the searches for their recipes, by label, of those that have one."""
    return {label: json.loads(run.tags[TUNING]) for label, run in newest.items() if TUNING in run.tags}


def tuning_notes(members: Mapping[tuple[str, str], Sequence[TrainingRun]]) -> list[str]:
    """What was spent, where there were any searches, and whether it was far from equal."""
    newest = {label: runs[0] for (_, label), runs in members.items()}
    found = searches(newest)
    if not found:
        return []
    parts = [
        f"{label} {found[label]['trials']:,} trials that saw {found[label]['images_seen']:,} training images"
        if label in found
        else f"{label} none, its recipe is that of its file"
        for label in newest
    ]
    notes = [f"Spent on tuning, on validation: {'; '.join(parts)}."]
    images = {label: about["images_seen"] for label, about in found.items()}
    most, least = max(images, key=images.__getitem__), min(images, key=images.__getitem__)
    if images[most] >= UNEQUAL * images[least] > 0:
        times = images[most] / images[least]
        notes.append(f"{most} was tuned {times:.0f} times as much as {least}: the order may come of that.")
    return notes


def expected_accuracy(newest: Mapping[str, TrainingRun]) -> dict[str, dict[int, float]]:
    """The expected best accuracy on validation by the number of trials, of those with a search."""
    curves = {label: about.get("expected_accuracy", {}) for label, about in searches(newest).items()}
    return {label: {int(trials): score for trials, score in curve.items()} for label, curve in curves.items() if curve}


def in_words(newest: Mapping[str, TrainingRun]) -> str:
    """Whether the searches changed the order on validation, and which fields mattered."""
    found = searches(newest)
    both = {label: about for label, about in found.items() if {BEFORE, AFTER} <= set(about)}
    sentences = []
    if len(both) > 1:
        before, after = (", ".join(sorted(both, key=lambda label: -both[label][name])) for name in (BEFORE, AFTER))
        sentences.append(
            f"Tuning left the order on validation as it was: {after}."
            if before == after
            else f"Tuning changed the order on validation, from {before} to {after}."
        )
    mattered = [
        f"for {label} {', '.join(sorted(shares, key=lambda field: -shares[field])[:MATTERED])}"
        for label, about in found.items()
        if (shares := about.get("importance"))
    ]
    if mattered:
        sentences.append(f"What mattered most: {'; '.join(mattered)}.")
    return " ".join(sentences)
