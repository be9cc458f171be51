"""What several trainings say together: the mean of their probabilities, as one answer."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.comparison.judging import stats
from pipeline.comparison.judging.pairs import MAX_TESTED, SIGNIFICANT, interval
from pipeline.comparison.judging.verdicts import verdict
from pipeline.metrics.catalog import LOGGED
from pipeline.tracking.schema import BEST_EPOCH, PREDICTIONS
from pipeline.tracking.training_run import Results, TrainingRun

PROBABILITY = "probability_"
# Probabilities are stored to six digits.
LEAST = 1e-12
# What the vote of one training of each architecture is called.
ALL = "vote of all"
# What an ensemble costs is what its voters cost together.
COSTS = ("train_s", "latency_p50_ms", "parameters", "flops", "size_mb", "energy_j")


def votes(rows: pd.DataFrame, members: Mapping[str, Sequence[TrainingRun]], results: Results) -> pd.DataFrame:
    """The vote of all architectures under one protocol, a training of each, and that of the seeds of each.

    Lakshminarayanan et al., "Simple and scalable predictive uncertainty estimation using deep ensembles", NeurIPS 2017,
    arXiv:1612.01474. Each is judged against one training of the best architecture, as one model against another, with
    levels divided by the number of votes: Bonferroni. Of several seeds it is the one that `promote` would choose.

    Args:
        rows: of the comparison's table, judged.
        members: by label, the trainings of each row, newest first.

    Returns:
        a row a vote, with the columns of the table as far as they apply; none where the probabilities are not at hand.
    """
    best = rows[rows["verdict"] == "best"].iloc[0]
    ranked = rows.sort_values("accuracy", ascending=False, kind="stable").drop_duplicates("architecture")
    everybody = f"{ALL} {len(ranked)}"
    chosen = {label: best_of(members[label][:MAX_TESTED], results) for label in ranked["label"]}
    electorates = {everybody: list(chosen.values())}
    for label in rows["label"][rows["seeds"] > 1]:
        runs = members[label][:MAX_TESTED]
        electorates[f"vote of {len(runs)} {label}"] = list(runs)
    told = {label: answers(voters, results) for label, voters in electorates.items() if len(voters) > 1}
    found = {label: found for label, found in told.items() if found is not None}
    rival = results.predictions(chosen[best["label"]])
    if not found or rival is None:
        return pd.DataFrame()
    its_errors = (rival["target"] != rival["prediction"]).to_numpy()
    level = SIGNIFICANT / len(found)
    lines = []
    for label, (probabilities, targets) in found.items():
        wrong = probabilities.argmax(1) != targets
        if len(wrong) != len(its_errors):
            continue
        low, high = stats.wilson(int((~wrong).sum()), len(wrong))
        p_value = stats.mcnemar(wrong, its_errors)
        # Of the errors: how far it is behind.
        behind = stats.difference(wrong[None], its_errors[None], stats.Spread())
        gap = interval(behind, 1 - level, differs=p_value < level)
        word = verdict(-gap[1], -gap[0], p_value, None if np.isnan(best["margin"]) else best["margin"], level)
        lines.append(
            {
                "label": label,
                "protocol": best["protocol"],
                "dataset": best["dataset"],
                "seeds": 1 if label == everybody else len(electorates[label]),
                **scores(probabilities, targets),
                "low": low,
                "high": high,
                "interval": "Wilson",
                "verdict": word,
                "gap_to_best": behind.value,
                "gap_low": gap[0],
                "gap_high": gap[1],
                "p_value": min(1.0, p_value * len(found)),
                "margin": best["margin"],
                **{cost: sum(run.metric(LOGGED[cost]) for run in electorates[label]) for cost in COSTS},
            }
        )
    return pd.DataFrame(lines)


def best_of(runs: Sequence[TrainingRun], results: Results) -> TrainingRun:
    """Of several seeds the training that did best on the validation images: by the test images it would be luck."""
    return max(runs, key=lambda run: validated(run, results)) if len(runs) > 1 else runs[0]


def validated(training: TrainingRun, results: Results) -> float:
    """The accuracy on the validation images of the epoch that was chosen; 0 where it is not at hand."""
    content = results.artifact(training, BEST_EPOCH)
    return json.loads(content)["val/accuracy"] if content else 0.0


def scores(probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Loss, accuracy and F1 as `metrics.classification.scores` has them, without what takes a second to import.

    Args:
        probabilities: (N, classes).
        targets: (N,).
    """
    said, classes = probabilities.argmax(1), probabilities.shape[1]
    images, named, hit = (np.bincount(kept, minlength=classes) for kept in (targets, said, targets[said == targets]))
    right = np.maximum(probabilities[np.arange(len(targets)), targets], LEAST)
    return {
        "loss": float(-np.log(right).mean()),
        "accuracy": float((said == targets).mean()),
        "f1": float((2 * hit[images > 0] / (images + named)[images > 0]).mean()),
    }


def answers(
    voters: Sequence[TrainingRun], results: Results, name: str = PREDICTIONS
) -> tuple[np.ndarray, np.ndarray] | None:
    """The mean of the voters' probabilities (N, classes), and the right classes (N,).

    Of classes that only some know, as a detector's `nothing`, nobody is asked. None where a voter's probabilities are
    not at hand, or are about other images.

    Args:
        name: as `Results.predictions` takes it.
    """
    tables: list[pd.DataFrame] = []
    for voter in voters:
        table = results.predictions(voter, name)
        if table is None or (tables and not table["target"].equals(tables[0]["target"])):
            return None
        tables.append(table)
    names = [name for name in tables[0].columns if all(name in table.columns for table in tables)]
    names = [name for name in names if name.startswith(PROBABILITY)]
    places = {name.removeprefix(PROBABILITY): place for place, name in enumerate(names)}
    targets = tables[0]["target"].map(places)
    if targets.isna().any():
        return None
    mean: Any = sum(table[names].to_numpy(float) for table in tables) / len(tables)
    return mean, targets.to_numpy(int)
