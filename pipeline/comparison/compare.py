"""From finished trainings to a comparison: a row an architecture, how sure its score is, and who is really better."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison import protocol
from pipeline.comparison.notes import (
    budget_notes,
    in_store,
    machine_notes,
    protocol_notes,
    scene_notes,
    seed_notes,
    store_notes,
    unfinished,
)
from pipeline.comparison.pairs import SIGNIFICANT, Predictions, examine_pairs, known_values, read_once
from pipeline.comparison.protocol import SHOWN
from pipeline.errors import InputError
from pipeline.metrics.catalog import CONSTANT, HIGHER_IS_BETTER, LOGGED, METRICS, PERCENT
from pipeline.names import short_hash
from pipeline.tracking.schema import SCENES

ROW = ["protocol", "dataset_sha256", "dataset", "store", "architecture", "recipe_key"]
# And among more rows than these the number of pairs leaves no difference significant.
MAX_TESTED_ROWS = 30


@dataclass(frozen=True)
class Comparison:
    """What finished trainings say.

    Attributes:
        metric: the column that architectures are ranked and judged by.
        table: one row an architecture and recipe under one protocol; columns protocol, dataset, store (only where
            there are several), architecture, recipe, label (unique within a protocol), seeds, epochs, images_seen,
            pretrained, for each of METRICS its mean `NAME` and its standard deviation over seeds `NAME_std`, the 95 %
            interval of the metric `low` and `high` with its method `interval`, `verdict`, and `gap_to_best` and
            `p_value` against the leader. A mean is empty where a seed lacks the metric.
        pairs: one row a pair of architectures under one protocol; columns protocol, first, second, difference, test,
            p_value, p_holm (corrected by Holm over the pairs of the protocol).
        protocols: the fields of each protocol.
        members: by protocol and label, the trainings of each row as `queries.trainings` gives them, newest first.
        notes: what a reader must know, in sentences.
        predictions: what each training predicted, read once.
    """

    metric: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    protocols: Mapping[str, Mapping[str, Any]]
    members: Mapping[tuple[str, str], list[dict]]
    notes: tuple[str, ...]
    predictions: Predictions

    def groups(self) -> list[tuple[str, pd.DataFrame]]:
        """The protocols with their part of the table, each to be read by itself."""
        return [(key, self.table[self.table["protocol"] == key]) for key in self.table["protocol"].unique()]


def compare(
    trainings: pd.DataFrame, predictions: Predictions, *, metric: str = "accuracy", sort: str = ""
) -> Comparison:
    """Compare the finished ones among these trainings, each group of one protocol by itself.

    Trainings that differ in anything but the seed are never averaged: each recipe has a row of its own.

    Args:
        trainings: one row a training, newest first, as `queries.trainings` gives them.
        predictions: reads what a training predicted for the test images; it is asked once for each.
        metric: a column of METRICS to rank and judge by.
        sort: a column to sort by instead of the metric.

    Raises:
        InputError: no training is finished, or none has the metric.
    """
    check_columns(metric, sort)
    predictions = read_once(predictions)
    done = trainings[trainings["status"] == "FINISHED"] if len(trainings) else trainings
    if done.empty:
        raise InputError(
            "There is no finished training to compare: run `mlflow run . -e train` or a study first."
            + "".join(f" {note}" for note in unfinished(trainings))
        )
    # Trainings recorded before there was a protocol: what is known of it keeps them apart.
    known = done.reindex(columns=["dataset_sha256", "params.val_size", "params.limit"]).astype(object).fillna("")
    defaults = {
        "protocol": "unrecorded-" + known.agg("-".join, axis=1).map(lambda text: short_hash({"known": text})),
        "protocol_fields": "{}",
        "budget": "{}",
        SCENES: "",
        "store": "",
    }
    done = done.reindex(columns=done.columns.union([*LOGGED.values(), *defaults]))
    done = done.astype(dict.fromkeys(defaults, object)).fillna(defaults)
    if METRICS[metric].on_scenes:
        done = done.assign(**examined_on_scenes(done))
    # A seed trained twice with the same config gives the same numbers and counts once.
    done = done.drop_duplicates(["config_key", "store"])
    if done[LOGGED[metric]].isna().all():
        raise InputError(f"No finished training has the metric {LOGGED[metric]}: choose another --metric.")
    protocols = {
        key: json.loads(text)
        for key, text in done.drop_duplicates("protocol")[["protocol", "protocol_fields"]].itertuples(index=False)
    }
    groups = done.groupby(ROW, sort=False)
    table = summarise(groups)
    members = [done.loc[group.index].to_dict("records") for _, group in groups]
    table["low"], table["high"], table["interval"] = zip(
        *(interval(metric, runs, protocols[runs[0]["protocol"]]) for runs in members), strict=True
    )
    pairs, untested = [], []
    better = 1 if metric in HIGHER_IS_BETTER else -1
    for key in table["protocol"].unique():
        rows = table[(table["protocol"] == key) & table[metric].notna()]
        best = (better * rows[metric]).nlargest(MAX_TESTED_ROWS).index
        found, without = examine_pairs(metric, {table["label"][row]: members[row] for row in best}, predictions)
        pairs.append(found.assign(protocol=key))
        untested += [
            f"The answers of {label} to the test images are not at hand, so it is not tested." for label in without
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
        *protocol_notes(table, protocols),
        *store_notes(table, metric),
        *budget_notes(table),
        *seed_notes(table, metric),
        *scene_notes(by_row),
        *machine_notes(by_row),
        *untested,
        *unfinished(trainings),
    )
    if not table["store"].any():
        table = table.drop(columns="store")
    return Comparison(metric, table, pairs, protocols, by_row, notes, predictions)


def examined_on_scenes(done: pd.DataFrame) -> dict[str, list[str]]:
    """Protocols that also tell the scenes apart: a score on them compares only with one on the same."""
    fields = [
        {**json.loads(known), **({"scenes": json.loads(scenes)} if scenes else {})}
        for known, scenes in done[["protocol_fields", SCENES]].itertuples(index=False)
    ]
    keys = [
        protocol.fingerprint(both) if scenes else key
        for both, scenes, key in zip(fields, done[SCENES], done["protocol"], strict=True)
    ]
    return {"protocol": keys, "protocol_fields": [json.dumps(both) for both in fields]}


def check_columns(metric: str, sort: str = "") -> None:
    """Refuse what is no column of the table.

    Raises:
        InputError: which there are.
    """
    for option, name in (("--metric", metric), ("--sort", sort)):
        known = [*METRICS, *(["architecture", "seeds", "dataset"] if option == "--sort" else [])]
        if name and name not in known:
            raise InputError(f"{option} cannot be '{name}': choose one of {', '.join(known)}.")


def summarise(groups: Any) -> pd.DataFrame:
    """One row a group of trainings that differ in the seed alone, in the groups' order."""
    table = groups.agg(
        seeds=("config_key", "size"),
        budget=("budget", "first"),
        **{name: (column, "mean") for name, column in LOGGED.items()},
        **{f"{name}_std": (column, "std") for name, column in LOGGED.items() if name not in CONSTANT},
    ).reset_index()
    # The mean of only those seeds that have a value would flatter, as that of the times to an accuracy.
    counts = groups[list(LOGGED.values())].count().reset_index(drop=True)
    for name, column in LOGGED.items():
        table[name] = table[name].where(counts[column] == table["seeds"])
    spent = pd.DataFrame([json.loads(text) for text in table.pop("budget")], index=table.index)
    table = table.join(spent.reindex(columns=["epochs", "images_seen", "pretrained"]))
    table = table.rename(columns={"recipe_key": "recipe"})
    if table["parameters"].notna().all():
        table["parameters"] = table["parameters"].astype(int)
    # A row's name within its protocol: no longer than it takes to tell it from the others.
    label = table["architecture"] + in_store(table)
    repeated = pd.concat([table["protocol"], label], axis=1).duplicated(keep=False)
    table["label"] = label.where(~repeated, label + " " + table["recipe"].str[:6])
    return table


def interval(metric: str, runs: list[dict], fields: Mapping[str, Any]) -> tuple[float, float, str]:
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
    judged = pd.DataFrame({"verdict": "", "gap_to_best": np.nan, "p_value": np.nan}, index=table.index)
    for key, rows in table[table[metric].notna()].groupby("protocol"):
        leader = (better * rows[metric]).idxmax()
        own = pairs[pairs["protocol"] == key]
        p_values = {frozenset((pair.first, pair.second)): pair.p_holm for pair in own.itertuples()}
        judged.loc[rows.index, "gap_to_best"] = better * (rows[metric][leader] - rows[metric])
        for row in rows.index:
            p_value = p_values.get(frozenset((table["label"][leader], table["label"][row])))
            if row == leader:
                judged.loc[row, "verdict"] = "best"
            elif p_value is not None and not np.isnan(p_value):
                judged.loc[row, "p_value"] = p_value
                judged.loc[row, "verdict"] = "tied" if p_value >= SIGNIFICANT else "worse"
    return judged
