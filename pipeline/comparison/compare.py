"""From finished trainings to a comparison: a row an architecture, how sure its score is, and who is really better."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison import protocol
from pipeline.comparison.labels import RECIPE, tell_apart
from pipeline.comparison.notes import (
    budget_notes,
    in_store,
    machine_notes,
    protocol_notes,
    repetition_notes,
    scene_notes,
    seed_notes,
    store_notes,
    unfinished,
)
from pipeline.comparison.pairs import SIGNIFICANT, examine_pairs, known_values
from pipeline.comparison.protocol import SHOWN
from pipeline.comparison.tuning import tuning_notes
from pipeline.errors import InputError
from pipeline.metrics.catalog import CONSTANT, HIGHER_IS_BETTER, LOGGED, METRICS, PERCENT, check_columns
from pipeline.names import short_hash
from pipeline.tracking import schema
from pipeline.tracking.training_run import Results, TrainingRun

# What trainings must share to have one row.
ROW = ["protocol", "dataset_sha256", "dataset", "store", "architecture", "recipe"]
# Among more rows than these the number of pairs leaves no difference significant.
MAX_TESTED_ROWS = 30


@dataclass(frozen=True)
class Comparison:
    """What finished trainings say.

    Attributes:
        metric: the column that architectures are ranked and judged by.
        table: one row an architecture and recipe under one protocol; columns protocol, dataset, store (only where
            there are several), architecture, recipe, label (unique within a protocol), seeds, epochs, images_seen,
            pretrained, for each of METRICS its mean `NAME` and its standard deviation over seeds `NAME_std`, the 95 %
            interval of the metric `low` and `high` with its method `interval`, `verdict`, and `gap_to_best`, its 95 %
            interval `gap_low` and `gap_high`, and `p_value` against the leader. A mean is empty where a seed lacks the
            metric.
        pairs: one row a pair of architectures under one protocol; columns protocol, first, second, difference with its
            95 % interval low and high, test, p_value, p_holm (corrected by Holm over the pairs of the protocol).
        protocols: the fields of each protocol.
        members: by protocol and label, the trainings of each row, newest first.
        trainings: all that were looked at, finished or not.
        notes: what a reader must know, in sentences.
        results: reads what the trainings left, each part once.
    """

    metric: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    protocols: Mapping[str, Mapping[str, Any]]
    members: Mapping[tuple[str, str], Sequence[TrainingRun]]
    trainings: Sequence[TrainingRun]
    notes: tuple[str, ...]
    results: Results

    def groups(self) -> list[tuple[str, pd.DataFrame]]:
        """The protocols with their part of the table, each to be read by itself."""
        return [(key, self.table[self.table["protocol"] == key]) for key in self.table["protocol"].unique()]


def compare(
    trainings: Sequence[TrainingRun], results: Results, *, metric: str = "accuracy", sort: str = ""
) -> Comparison:
    """Compare the finished ones among these trainings, each group of one protocol by itself.

    Trainings that differ in anything but the seed are never averaged: each recipe has a row of its own.

    Args:
        trainings: newest first.
        results: reads what a training predicted for the test images.
        metric: a column of METRICS to rank and judge by.
        sort: a column to sort by instead of the metric.

    Raises:
        InputError: no training is finished, or none has the metric.
    """
    check_columns(metric, sort)
    # A seed trained twice with the same config gives the same numbers and counts once, the newest.
    finished = {training.identity: training for training in reversed(trainings) if training.status == "FINISHED"}
    done = list(reversed(finished.values()))
    if not done:
        raise InputError(
            "There is no finished training to compare: run `mlflow run . -e train` or a study first."
            + "".join(f" {note}" for note in unfinished(trainings))
        )
    rows = tabulate(done, by_scenes=METRICS[metric].on_scenes)
    if rows[metric].isna().all():
        raise InputError(f"No finished training has the metric {LOGGED[metric]}: choose another --metric.")
    protocols = {
        key: json.loads(text)
        for key, text in rows.drop_duplicates("protocol")[["protocol", "protocol_fields"]].itertuples(index=False)
    }
    groups = rows.groupby(ROW, sort=False)
    table = summarise(groups)
    members = [[done[number] for number in group.index] for _, group in groups]
    table["label"] = name_rows(table, members)
    table["low"], table["high"], table["interval"] = zip(
        *(interval(metric, runs, protocols[key]) for runs, key in zip(members, table["protocol"], strict=True)),
        strict=True,
    )
    pairs, untested = [], []
    better = 1 if metric in HIGHER_IS_BETTER else -1
    for key in table["protocol"].unique():
        rows = table[(table["protocol"] == key) & table[metric].notna()]
        best = (better * rows[metric]).nlargest(MAX_TESTED_ROWS).index
        examined = examine_pairs(metric, {table["label"][row]: members[row] for row in best}, results)
        pairs.append(examined.pairs.assign(protocol=key))
        for row in best:
            if both := examined.intervals.get(table["label"][row]):
                table.loc[row, ["low", "high", "interval"]] = [*both, "crossed"]
        if len(best) > 1:
            untested += [
                f"The answers of {label} to the test images are not at hand, so it is not tested."
                for label in examined.untested
            ]
        if len(rows) > len(best):
            untested.append(f"Only the best {len(best)} of the {len(rows):,} under protocol {key[:SHOWN]} are tested.")
    by_row = dict(zip(table[["protocol", "label"]].itertuples(index=False, name=None), members, strict=True))
    pairs = pd.concat(pairs, ignore_index=True)
    table = table.join(judge(table, pairs, metric))
    sort = sort or metric
    table = table.sort_values(sort, ascending=sort not in HIGHER_IS_BETTER, kind="stable")
    # The protocol with the most trainings first.
    size = table.groupby("protocol")["seeds"].transform("sum")
    table = table.assign(size=size).sort_values(["size", "protocol"], ascending=[False, True], kind="stable")
    table = table.drop(columns=["size", "dataset_sha256"]).reset_index(drop=True)
    notes = (
        *repetition_notes(by_row),
        *protocol_notes(table, protocols),
        *store_notes(table, metric),
        *budget_notes(table),
        *tuning_notes(by_row),
        *seed_notes(table, metric),
        *scene_notes(by_row),
        *machine_notes(by_row),
        *untested,
        *unfinished(trainings),
    )
    if not table["store"].any():
        table = table.drop(columns="store")
    return Comparison(metric, table, pairs, protocols, by_row, trainings, notes, results)


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


def interval(metric: str, runs: Sequence[TrainingRun], fields: Mapping[str, Any]) -> tuple[float, float, str]:
    """The 95 % interval of a metric and its method, empty where one run says nothing of it."""
    # Only where there is something to compute: reading them takes longer than reading a thousand runs.
    from pipeline.comparison import stats

    values = known_values(runs, metric)
    if len(values) > 1:
        low, high = stats.student(values)
        # Few seeds can give an interval that reaches beyond what a share can be.
        return (max(0.0, low), min(1.0, high), "Student") if metric in PERCENT else (low, high, "Student")
    images = fields.get("test_images")
    if metric == "accuracy" and images and values:
        return *stats.wilson(round(values[0] * images), images), "Wilson"
    return np.nan, np.nan, ""


def judge(table: pd.DataFrame, pairs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Verdict, distance and corrected p-value of each row against the leader of its protocol."""
    better = 1 if metric in HIGHER_IS_BETTER else -1
    numbers = dict.fromkeys(["gap_to_best", "gap_low", "gap_high", "p_value"], np.nan)
    judged = pd.DataFrame({"verdict": "", **numbers}, index=table.index)
    for key, rows in table[table[metric].notna()].groupby("protocol"):
        leader = (better * rows[metric]).idxmax()
        own = pairs[pairs["protocol"] == key]
        pair_of = {frozenset((pair.first, pair.second)): pair for pair in own.itertuples()}
        judged.loc[rows.index, "gap_to_best"] = better * (rows[metric][leader] - rows[metric])
        for row in rows.index:
            pair = pair_of.get(frozenset((table["label"][leader], table["label"][row])))
            if row == leader:
                judged.loc[row, "verdict"] = "best"
            elif pair is not None and not np.isnan(pair.p_holm):
                ahead = better if pair.first == table["label"][leader] else -better
                gap = sorted((ahead * pair.low, ahead * pair.high))
                judged.loc[row, ["gap_low", "gap_high", "p_value"]] = [*gap, pair.p_holm]
                judged.loc[row, "verdict"] = "tied" if pair.p_holm >= SIGNIFICANT else "worse"
    return judged
