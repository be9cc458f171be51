"""What a reader of a comparison must know, in sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pipeline.comparison import protocol
from pipeline.comparison.protocol import SHOWN
from pipeline.metrics.catalog import PERCENT
from pipeline.tracking.schema import SCENES
from pipeline.tracking.training_run import TrainingRun, machines


def in_store(store: str) -> str:
    """What tells trainings of another store from one's own, to be put behind their names."""
    return f" ({store})" if store else ""


def protocol_notes(table: pd.DataFrame, protocols: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Why there are several groups, field by field, but for what their titles say."""
    names = table.drop_duplicates("protocol").set_index("protocol")["dataset"]
    first, *others = names.index
    if not others:
        return []
    notes = [f"These trainings were made under {len(names):,} protocols: only numbers of one of them can be compared."]
    for key in others:
        alike = names.index[names == names[key]][0]
        against, told = (first, protocol.OF_THE_DATA) if alike == key else (alike, protocol.OF_THE_SIZE)
        if found := protocol.difference(protocols[key], protocols[against], told=told):
            notes.append(f"Protocol {key[:SHOWN]} differs from {against[:SHOWN]}: {found}.")
    return notes


def store_notes(table: pd.DataFrame, metric: str) -> list[str]:
    """How trainings from another store stand beside one's own of the same architecture and protocol."""
    notes = []
    for _, theirs in table[table["store"] != ""].iterrows():
        same = (table["store"] == "") & (table["architecture"] == theirs["architecture"])
        ours = table[same & (table["protocol"] == theirs["protocol"])]
        if ours.empty:
            notes.append(
                f"{theirs['label']}: nothing here to lay beside it, "
                + ("as its protocol is another." if same.any() else "as this architecture is not among the trainings.")
            )
        for _, own in ours.iterrows():
            difference = theirs[metric] - own[metric]
            text = f"{100 * difference:+.2f} pp" if metric in PERCENT else f"{difference:+.4g}"
            notes.append(f"{theirs['label']} against {own['label']}: {text} {metric}.")
    return notes


def budget_notes(table: pd.DataFrame) -> list[str]:
    """What was spent, where it differs among those that are compared."""
    notes = []
    differs = table.groupby("protocol")["images_seen"].transform("nunique") > 1
    if differs.any():
        seen, epochs = table.loc[differs, "images_seen"].dropna(), table.loc[differs, "epochs"].dropna().astype(int)
        often = f"{epochs.min()} to {epochs.max()}" if epochs.nunique() > 1 else f"{epochs.min()}"
        notes.append(
            f"Budgets differ: {often} epochs, {int(seen.min()):,} to {int(seen.max()):,} training images seen."
        )
    if table["pretrained"].dropna().nunique() > 1:
        pretrained = table.loc[table["pretrained"] == True, "label"]  # noqa: E712, it may be empty
        notes.append(f"These did not start from scratch: {', '.join(pretrained)}.")
    return notes


def seed_notes(table: pd.DataFrame, metric: str) -> list[str]:
    """What one seed cannot say."""
    single = table["seeds"] == 1
    if not single.any():
        return []
    names = table.loc[single, "label"]
    some = ", ".join(names) if len(names) <= 4 else f"{len(names):,} of the {len(table):,} in the table"
    which = "Each architecture" if single.all() else some
    covers = "its interval covers other test images, not another seed" if metric == "accuracy" else "it has no interval"
    return [f"{which} had one seed: {covers}."]


def repetition_notes(members: Mapping[tuple[str, str], Sequence[TrainingRun]]) -> list[str]:
    """A warning for each protocol whose test images were training images as well."""
    said = {key: protocol.repeated(run.tags) for (key, _), runs in members.items() for run in runs}
    several = len(said) > 1
    return [f"Protocol {key[:SHOWN]}: {text}" if several else text for key, text in said.items() if text]


def scene_notes(members: Mapping[tuple[str, str], Sequence[TrainingRun]]) -> list[str]:
    """A warning where detectors under one protocol were examined on different scenes."""
    labels: dict[tuple[str, str], list[str]] = {}
    for (key, label), runs in members.items():
        if scenes := runs[0].tags.get(SCENES):
            labels.setdefault((key, scenes), []).append(label)
    shared = [key for key, _ in labels]
    names = [name for (key, _), found in labels.items() if shared.count(key) > 1 for name in found]
    if not names:
        return []
    return [f"mAP is measured on scenes of their own and cannot be compared between {', '.join(names)}."]


def machine_notes(members: Mapping[tuple[str, str], Sequence[TrainingRun]]) -> list[str]:
    """A warning where times come from several machines."""
    found = machines(run for runs in members.values() for run in runs)
    if len(found) < 2:
        return []
    return [f"Times and memory come from several machines and cannot be compared: {'; '.join(found)}."]


def unfinished(trainings: Sequence[TrainingRun]) -> list[str]:
    """Which trainings are not in the table, and why."""
    # What failed and was then done again needs no word.
    finished = {training.identity for training in trainings if training.status == "FINISHED"}
    notes = []
    for status, text in (("FAILED", "failed"), ("KILLED", "was interrupted"), ("RUNNING", "is still running")):
        left = [training for training in trainings if training.status == status and training.identity not in finished]
        names = list(dict.fromkeys(training.name + in_store(training.store) for training in left))
        if names:
            shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
            notes.append(f"Not in the table, as it {text}: {shown}.")
    return notes
