"""From finished trainings to a comparison: a row an architecture, how sure its score is, and who is really better."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pipeline.comparison.judging.datasets import OverDatasets, over_datasets
from pipeline.comparison.judging.pairs import examine_pairs, known_values
from pipeline.comparison.judging.verdicts import judge
from pipeline.comparison.notes import (
    budget_notes,
    machine_notes,
    protocol_notes,
    repetition_notes,
    scene_notes,
    seed_notes,
    store_notes,
    unfinished,
)
from pipeline.comparison.protocol import SHOWN
from pipeline.comparison.rows import ROW, name_rows, summarise, tabulate
from pipeline.comparison.sizes import OverSizes, over_sizes
from pipeline.comparison.tuning import tuning_notes
from pipeline.errors import InputError
from pipeline.metrics.catalog import HIGHER_IS_BETTER, LOGGED, METRICS, PERCENT, check_columns
from pipeline.tracking.training_run import Results, TrainingRun

if TYPE_CHECKING:
    from pipeline.comparison.judging.planning import Design

# Among more rows than these the number of pairs leaves no difference significant.
MAX_TESTED_ROWS = 30


@dataclass(frozen=True)
class Comparison:
    """What finished trainings say.

    Attributes:
        metric: the column that architectures are ranked and judged by.
        margin: how far two may be apart and count as equal, as it was asked for; None for the usual one.
        table: one row an architecture and recipe under one protocol; columns protocol, dataset, store (only where
            there are several), architecture, recipe, label (unique within a protocol), seeds, epochs, images_seen,
            pretrained, training_images, test_images, for each of METRICS its mean `NAME` and its standard deviation
            over seeds `NAME_std`, the 95 % interval of the metric `low` and `high` with its method `interval`,
            `letters`, of which those share one that were not told apart, `verdict`, and `gap_to_best`, its interval
            `gap_low` and `gap_high`, and `p_value` against the leader, with the `margin` within which two count as
            equal, and `seeds_needed` of each or `images_needed` to decide where nothing is decided, infinite where no
            number would do. A mean is empty where a seed lacks the metric.
        pairs: one row a pair of architectures under one protocol; columns protocol, first, second, difference with its
            interval low and high, test, p_value, p_adjusted, improvement, how likely a training of the first is
            better than one of the second, and the verdict on the first. The intervals hold all at once in 95 % of
            studies, and p_adjusted is adjusted for all pairs of the protocol as well.
        votes: one row an ensemble, what trainings under one protocol say together; the columns of the table that apply.
        designs: by protocol and label, how the leader's difference in accuracy would be known in other studies.
        protocols: the fields of each protocol.
        members: by protocol and label, the trainings of each row, newest first.
        trainings: all that were looked at, finished or not.
        notes: what a reader must know, in sentences.
        results: reads what the trainings left, each part once.
    """

    metric: str
    margin: float | None
    table: pd.DataFrame
    pairs: pd.DataFrame
    votes: pd.DataFrame
    designs: Mapping[tuple[str, str], "Design"]
    protocols: Mapping[str, Mapping[str, Any]]
    members: Mapping[tuple[str, str], Sequence[TrainingRun]]
    trainings: Sequence[TrainingRun]
    notes: tuple[str, ...]
    results: Results

    def votes_under(self, key: str) -> pd.DataFrame:
        """The votes under one protocol."""
        return self.votes[self.votes["protocol"] == key] if len(self.votes) else self.votes

    @cached_property
    def over_datasets(self) -> OverDatasets | None:
        """What several data sets say together, if there are."""
        limits = {key: int(runs[0].params.get("limit", 0)) for (key, _), runs in self.members.items()}
        return over_datasets(self.groups(), self.metric, limits)

    @cached_property
    def over_sizes(self) -> list[OverSizes]:
        """What several numbers of training images say, of each data set that has them."""
        return over_sizes(self.groups(), self.protocols, self.metric)

    def measured_on(self, key: str) -> str:
        """The data set of a protocol, with the number of training images where it has several."""
        names = self.table.groupby("protocol", sort=False)["dataset"].agg(lambda names: ", ".join(sorted(set(names))))
        sizes = {self.protocols[each].get("training_images") for each in names.index[names == names[key]]}
        size = self.protocols[key].get("training_images")
        return f"{names[key]}, {size:,} training images" if len(sizes) > 1 and size else names[key]

    def groups(self) -> list[tuple[str, pd.DataFrame]]:
        """The protocols with their part of the table, each to be read by itself."""
        return [(key, self.table[self.table["protocol"] == key]) for key in self.table["protocol"].unique()]


def compare(
    trainings: Sequence[TrainingRun],
    results: Results,
    *,
    metric: str = "accuracy",
    sort: str = "",
    margin: float | None = None,
) -> Comparison:
    """Compare the finished ones among these trainings, each group of one protocol by itself.

    Trainings that differ in anything but the seed are never averaged: each recipe has a row of its own.

    Args:
        trainings: newest first.
        results: reads what a training predicted for the test images.
        metric: a column of METRICS to rank and judge by.
        sort: a column to sort by instead of the metric.
        margin: how far two may be apart and count as equal, as `verdicts.margin_of` takes it.

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
    designs: dict[tuple[str, str], Design] = {}
    better = 1 if metric in HIGHER_IS_BETTER else -1
    for key in table["protocol"].unique():
        rows = table[(table["protocol"] == key) & table[metric].notna()]
        best = (better * rows[metric]).nlargest(MAX_TESTED_ROWS).index
        examined = examine_pairs(metric, {table["label"][row]: members[row] for row in best}, results)
        pairs.append(examined.pairs.assign(protocol=key))
        designs |= {(key, label): design for label, design in examined.designs.items()}
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
    judged, pairs = judge(table, pd.concat(pairs, ignore_index=True), metric, margin)
    table = table.join(judged)
    table["seeds_needed"], table["images_needed"] = zip(
        *(needed(row, designs) for row in table.itertuples()), strict=True
    )
    sort = sort or metric
    table = table.sort_values(sort, ascending=sort not in HIGHER_IS_BETTER, kind="stable")
    # The protocol with the most trainings first, then each data set by itself, the one with most images first.
    for name in ("training_images", "test_images"):
        known = table["protocol"].map(lambda key, name=name: protocols[key].get(name, np.nan))
        table[name] = known.astype(int) if known.notna().all() else known
    order = table.assign(size=table.groupby("protocol")["seeds"].transform("sum")).sort_values(
        ["size", "dataset", "training_images", "protocol"], ascending=[False, True, False, True], kind="stable"
    )
    table = table.loc[order.index].drop(columns="dataset_sha256").reset_index(drop=True)
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
    votes = pd.DataFrame()
    if metric == "accuracy":
        votes = pd.concat([votes_of(rows, by_row, results) for _, rows in table.groupby("protocol", sort=False)])
        voters = table.groupby("protocol").agg(architectures=("architecture", "nunique"), seeds=("seeds", "max"))
        if votes.empty and (voters > 1).any(axis=None):
            notes = (*notes, "There is no vote: the probabilities of the answers are not at hand.")
    if not table["store"].any():
        table = table.drop(columns="store")
    return Comparison(metric, margin, table, pairs, votes, designs, protocols, by_row, trainings, notes, results)


def interval(metric: str, runs: Sequence[TrainingRun], fields: Mapping[str, Any]) -> tuple[float, float, str]:
    """The 95 % interval of a metric and its method, empty where one run says nothing of it."""
    # Only where there is something to compute: reading them takes longer than reading a thousand runs.
    from pipeline.comparison.judging import stats

    values = known_values(runs, metric)
    if len(values) > 1:
        low, high = stats.student(values)
        # Few seeds can give an interval that reaches beyond what a share can be.
        return (max(0.0, low), min(1.0, high), "Student") if metric in PERCENT else (low, high, "Student")
    images = fields.get("test_images")
    if metric == "accuracy" and images and values:
        return *stats.wilson(round(values[0] * images), images), "Wilson"
    return np.nan, np.nan, ""


def needed(row: Any, designs: Mapping[tuple[str, str], "Design"]) -> tuple[float, float]:
    """How many seeds, or how many test images, would decide between the leader and a row where nothing is decided."""
    design = designs.get((row.protocol, row.label))
    if row.verdict != "undecided" or design is None:
        return np.nan, np.nan
    from pipeline.comparison.judging import planning

    need = planning.need(design, None if np.isnan(row.margin) else row.margin)
    return need.seeds, need.images


def votes_of(
    rows: pd.DataFrame, members: Mapping[tuple[str, str], Sequence[TrainingRun]], results: Results
) -> pd.DataFrame:
    """What the trainings under one protocol say together, as far as they were tested."""
    tested = rows[rows["verdict"].isin(["best", "equivalent", "undecided", "worse"])]
    if tested["seeds"].sum() < 2:
        return pd.DataFrame()
    from pipeline.comparison.judging.votes import votes

    return votes(
        tested, {label: members[key, label] for key, label in tested[["protocol", "label"]].to_numpy()}, results
    )
