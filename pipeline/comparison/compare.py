"""From finished trainings to a comparison: a row an architecture, how sure its score is, and who is really better."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.notes import (
    budget_notes,
    in_store,
    machine_notes,
    protocol_notes,
    seed_notes,
    store_notes,
    unfinished,
)
from pipeline.comparison.protocol import SHOWN
from pipeline.errors import InputError
from pipeline.metrics.catalog import CONSTANT, HIGHER_IS_BETTER, METRICS, OF_SCORES, PERCENT
from pipeline.names import short_hash

LOGGED = {name: metric.logged for name, metric in METRICS.items()}
ROW = ["protocol", "dataset_sha256", "dataset", "store", "architecture", "recipe_key"]
SIGNIFICANT = 0.05
# Of more trainings of one architecture these are enough to tell it from another.
MOST_TESTED = 20
# And among more rows than these the number of pairs leaves no difference significant.
MOST_TESTED_ROWS = 30

# The answers of a training to the test images: columns target and prediction, None where they are not at hand.
Answers = Callable[[Mapping[str, Any]], pd.DataFrame | None]


@dataclass(frozen=True)
class Comparison:
    """What finished trainings say.

    Attributes:
        metric: the column that architectures are ranked and judged by.
        table: one row an architecture and recipe under one protocol; columns protocol, dataset, store (only where
            there are several), architecture, recipe, label (unique within a protocol), seeds, epochs, images_seen,
            pretrained, for each of METRICS its mean `NAME` and its standard deviation over seeds `NAME_std`, the 95 %
            interval of the metric `low` and `high` with its method `interval`, `verdict`, and `behind` and `p_value`
            against the leader. A mean is empty where a seed lacks the metric.
        pairs: one row a pair of architectures under one protocol; columns protocol, first, second, difference, test,
            p_value, p_holm (corrected by Holm over the pairs of the protocol).
        protocols: the fields of each protocol.
        members: by protocol and label, the trainings of each row as `tracking.trainings` gives them, newest first.
        notes: what a reader must know, in sentences.
    """

    metric: str
    table: pd.DataFrame
    pairs: pd.DataFrame
    protocols: Mapping[str, Mapping[str, Any]]
    members: Mapping[tuple[str, str], list[dict]]
    notes: tuple[str, ...]

    def groups(self) -> list[tuple[str, pd.DataFrame]]:
        """The protocols with their part of the table, each to be read by itself."""
        return [(key, self.table[self.table["protocol"] == key]) for key in self.table["protocol"].unique()]


def compare(trainings: pd.DataFrame, answers: Answers, *, metric: str = "accuracy", sort: str = "") -> Comparison:
    """Compare the finished ones among these trainings, each group of one protocol by itself.

    Trainings that differ in anything but the seed are never averaged: each recipe has a row of its own.

    Args:
        trainings: one row a training, newest first, as `tracking.trainings` gives them.
        answers: reads what a training answered to the test images.
        metric: a column of METRICS to rank and judge by.
        sort: a column to sort by instead of the metric.

    Raises:
        InputError: no training is finished, or none has the metric.
    """
    check_columns(metric, sort)
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
        "store": "",
    }
    done = done.reindex(columns=done.columns.union([*LOGGED.values(), *defaults]))
    done = done.astype(dict.fromkeys(defaults, object)).fillna(defaults)
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
        best = (better * rows[metric]).nlargest(MOST_TESTED_ROWS).index
        found, without = examine_pairs(metric, {table["label"][row]: members[row] for row in best}, answers)
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
        *machine_notes(by_row),
        *untested,
        *unfinished(trainings),
    )
    if not table["store"].any():
        table = table.drop(columns="store")
    return Comparison(metric, table, pairs, protocols, by_row, notes)


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


def known_values(runs: Iterable[Mapping[str, Any]], metric: str) -> list[float]:
    """A metric of those trainings that have it."""
    return [run[LOGGED[metric]] for run in runs if pd.notna(run[LOGGED[metric]])]


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


def examine_pairs(metric: str, members: Mapping[str, list[dict]], answers: Answers) -> tuple[pd.DataFrame, list[str]]:
    """Whether each pair differs, and the labels of those that cannot be tested.

    Accuracy is tested on the images: by a bootstrap over images and seeds where both were repeated, otherwise by
    McNemar's test of the newest run of each. Other metrics are tested over seeds, by Welch's test; those that mean
    another thing for a detector, not between it and a classifier.
    """
    from pipeline.comparison import stats

    columns = ["first", "second", "difference", "test", "p_value"]
    rows: list[tuple] = []
    untested: list[str] = []
    values = {label: known_values(runs, metric) for label, runs in members.items()}
    means = {label: float(np.mean(found)) for label, found in values.items()}
    if metric == "accuracy" and len(members) > 1:
        wrong = {label: wrong_answers(runs, answers) for label, runs in members.items()}
        untested = [label for label, found in wrong.items() if found is None]
        wrong = {label: found for label, found in wrong.items() if found is not None}
        # Answers to another number of images are not those to the test images.
        images = max((found.shape[1] for found in wrong.values()), default=0)
        untested += [label for label, found in wrong.items() if found.shape[1] != images]
        wrong = {label: found for label, found in wrong.items() if found.shape[1] == images}
        several = {label: found for label, found in wrong.items() if len(found) > 1}
        drawn = dict(zip(several, stats.resample(list(several.values())) if several else (), strict=True))
        for first, second in combinations(wrong, 2):
            if first in drawn and second in drawn:
                test = "bootstrap"
                p_value = stats.bootstrap_p_value(wrong[first], wrong[second], drawn[first] - drawn[second])
            else:
                test, p_value = "McNemar", stats.mcnemar(wrong[first][0], wrong[second][0])
            rows.append((first, second, means[first] - means[second], test, p_value))
    elif metric not in CONSTANT:
        several = {label: found for label, found in values.items() if len(found) > 1}
        for first, second in combinations(several, 2):
            if metric in OF_SCORES and is_detector(members[first]) is not is_detector(members[second]):
                continue
            p_value = stats.welch(several[first], several[second])
            rows.append((first, second, means[first] - means[second], "Welch", p_value))
    pairs = pd.DataFrame(rows, columns=columns)
    return pairs.assign(p_holm=stats.holm(pairs["p_value"])), untested


def is_detector(runs: list[dict]) -> bool:
    """Whether these trainings have what only detectors have."""
    return pd.notna(runs[0][LOGGED["map"]])


def wrong_answers(runs: Iterable[dict], answers: Answers) -> np.ndarray | None:
    """Which test images each training answered wrong, bool (seeds, N); None where one's answers are not at hand."""
    found = []
    for run in list(runs)[:MOST_TESTED]:
        table = answers(run)
        if table is None or (found and len(table) != len(found[0])):
            return None
        found.append((table["target"] != table["prediction"]).to_numpy())
    return np.array(found)


def judge(table: pd.DataFrame, pairs: pd.DataFrame, metric: str) -> pd.DataFrame:
    """Verdict, distance and corrected p-value of each row against the leader of its protocol."""
    better = 1 if metric in HIGHER_IS_BETTER else -1
    judged = pd.DataFrame({"verdict": "", "behind": np.nan, "p_value": np.nan}, index=table.index)
    for key, rows in table[table[metric].notna()].groupby("protocol"):
        leader = (better * rows[metric]).idxmax()
        own = pairs[pairs["protocol"] == key]
        p_values = {frozenset((pair.first, pair.second)): pair.p_holm for pair in own.itertuples()}
        judged.loc[rows.index, "behind"] = better * (rows[metric][leader] - rows[metric])
        for row in rows.index:
            p_value = p_values.get(frozenset((table["label"][leader], table["label"][row])))
            if row == leader:
                judged.loc[row, "verdict"] = "best"
            elif p_value is not None and not np.isnan(p_value):
                judged.loc[row, "p_value"] = p_value
                judged.loc[row, "verdict"] = "tied" if p_value >= SIGNIFICANT else "worse"
    return judged
