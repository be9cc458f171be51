"""The rows of a comparison: which trainings belong together, their means, and what each is called."""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from pipeline.comparison import protocol
from pipeline.comparison.labels import RECIPE, tell_apart
from pipeline.comparison.notes import in_store
from pipeline.metrics.catalog import CONSTANT, LOGGED, METRICS
from pipeline.names import short_hash
from pipeline.tracking import schema
from pipeline.tracking.training_run import TrainingRun

# What trainings must share to have one row.
ROW = ["protocol", "dataset_sha256", "dataset", "store", "architecture", "recipe"]


def tabulate(trainings: Sequence[TrainingRun], *, by_scenes: bool) -> pd.DataFrame:
    """One row a training: what it is grouped by, its budget, and its metrics under the columns' names.

    Args:
        by_scenes: whether the protocols shall tell a detector's scenes apart: a score on them compares only with one
            on the same.
    """
    rows = []
    for training in trainings:
        tags = training.tags
        key, fields = tags.get(schema.PROTOCOL) or unrecorded(training), tags.get(schema.PROTOCOL_FIELDS, "{}")
        if by_scenes and (scenes := tags.get(schema.SCENES)):
            both = {**json.loads(fields), "scenes": json.loads(scenes)}
            key, fields = protocol.fingerprint(both), json.dumps(both)
        rows.append(
            {
                "protocol": key,
                "protocol_fields": fields,
                "dataset_sha256": tags.get(schema.DATASET_SHA256, ""),
                "dataset": tags.get(schema.DATASET, ""),
                "store": training.store,
                "architecture": tags.get(schema.ARCHITECTURE, ""),
                "recipe": tags.get(schema.RECIPE_KEY, training.run_id),
                "budget": tags.get(schema.BUDGET, "{}"),
                **{name: training.metric(logged) for name, logged in LOGGED.items()},
            }
        )
    return pd.DataFrame(rows)


def unrecorded(training: TrainingRun) -> str:
    """The protocol of a training recorded before there was one: what is known of it keeps it apart."""
    params = training.params
    known = (training.tags.get(schema.DATASET_SHA256, ""), params.get("val_size", ""), params.get("limit", ""))
    return "unrecorded-" + short_hash({"known": "-".join(known)})


def summarise(groups: Any) -> pd.DataFrame:
    """One row a group of trainings that differ in the seed alone, in the groups' order."""
    table = groups.agg(
        seeds=("recipe", "size"),
        budget=("budget", "first"),
        **{name: (name, "mean") for name in METRICS},
        **{f"{name}_std": (name, "std") for name in METRICS if name not in CONSTANT},
    ).reset_index()
    # The mean of only those seeds that have a value would flatter, as that of the times to an accuracy.
    counts = groups[list(METRICS)].count().reset_index(drop=True)
    for name in METRICS:
        table[name] = table[name].where(counts[name] == table["seeds"])
    spent = pd.DataFrame([json.loads(text) for text in table.pop("budget")], index=table.index)
    table = table.join(spent.reindex(columns=["epochs", "images_seen", "pretrained"]))
    if table["parameters"].notna().all():
        table["parameters"] = table["parameters"].astype(int)
    return table


def name_rows(table: pd.DataFrame, members: Sequence[Sequence[TrainingRun]]) -> pd.Series:
    """A row's name within its protocol: no longer than it takes to tell it from the others."""
    label = table["architecture"] + table["store"].map(in_store)
    for _, rows in table.groupby(["protocol", label]):
        if len(rows) > 1:
            names = tell_apart([{**members[row][0].params, RECIPE: table["recipe"][row]} for row in rows.index])
            label[rows.index] = [f"{label[row]} {name}".rstrip() for row, name in zip(rows.index, names, strict=True)]
    return label
