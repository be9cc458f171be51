"""A comparison as one page that needs nothing but itself: no network, no script, no other file."""

import io
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from matplotlib.figure import Figure

from pipeline import charts, photo, tables
from pipeline.compare import HIGHER_IS_BETTER, METRICS, MOST_TESTED, PERCENT, SIGNIFICANT, Comparison
from pipeline.data.corruptions import CORRUPTIONS, IMAGES
from pipeline.protocol import SHOWN
from pipeline.tracking import queries

# More architectures than these would not be told apart in a drawing.
MOST_DRAWN = 12
HARD_IMAGES = 24
# A drawing's name, the drawing, its caption, and the numbers in it for those who cannot see it.
Drawing = tuple[str, Figure, str, str]
# Column of the table on the page: its heading.
HEADINGS = {
    "verdict": "verdict",
    "seeds": "seeds",
    "accuracy": "accuracy, %",
    "low": "95 % from",
    "high": "to",
    "f1": "F1, %",
    "loss": "loss",
    "map": "mAP",
    "map_50": "mAP at 50 %",
    "calibration_error": "calibration error, %",
    "corrupted_accuracy": "accuracy on corrupted, %",
    "train_s": "training, s",
    "to_95_s": "to 95 %, s",
    "to_98_s": "to 98 %, s",
    "to_99_s": "to 99 %, s",
    "latency_p50_ms": "latency p50, ms",
    "latency_p95_ms": "latency p95, ms",
    "images_per_second": "images a second",
    "threads": "threads",
    "parameters": "parameters",
    "flops": "FLOPs an image",
    "size_mb": "size, MB",
    "peak_memory_mb": "peak memory, MB",
    "energy_j": "energy, J",
    "pretrained": "pretrained",
    "epochs": "epochs",
    "images_seen": "images seen",
}
COSTS = {
    "train_s": "training and validation, s",
    "latency_p50_ms": "time to answer one image, ms",
    "parameters": "parameters",
}
NOTES = (
    "Accuracy, F1 (the mean over the classes) and loss (cross-entropy in nats) are those on the test images, which "
    "each training used once, at its end. The epoch that was tested was chosen on validation images.",
    "Calibration error is the expected calibration error in 15 bins: how far the confidence of the answers is from "
    "their accuracy.",
    f"Accuracy on corrupted images is the mean over {', '.join(CORRUPTIONS)}, each in three severities, on up to "
    f"{IMAGES} test images, the same for all.",
    "Latency is that of one image by itself, median and 95th percentile, images a second that in batches of 32: both "
    "after a warm-up, on so many threads, with the images' way to the device and back.",
    "FLOPs count multiplications and additions of matrix products and convolutions for one image. Size is that of the "
    "weights. Peak memory is that of the training process, on a GPU that of its tensors. Times to 95, 98 and 99 % are "
    "those until the validation images were answered so well. Energy is blank where the machine has no counter.",
)


def build(comparison: Comparison, *, source: str, written: datetime) -> str:
    """The page.

    Args:
        source: what was compared, in a few words.
        written: now.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    names = ", ".join(sorted(comparison.table["dataset"].unique()))
    return environment.get_template("report.html").render(
        title=f"Vision architectures compared on {names}",
        source=source,
        written=written.strftime("%Y-%m-%d %H:%M"),
        groups=[
            group(comparison, key, rows, number) for number, (key, rows) in enumerate(comparison.groups(), start=1)
        ],
        notes=[*tables.notes(comparison), *NOTES],
    )


def group(comparison: Comparison, key: str, rows: pd.DataFrame, number: int) -> dict[str, Any]:
    """Everything the page says of the trainings under one protocol."""
    metric = comparison.metric
    higher = metric in HIGHER_IS_BETTER
    ranked = rows[rows[metric].notna()].sort_values(metric, ascending=not higher, kind="stable")
    # The best of them, in the order of the table.
    drawn = rows.loc[sorted(ranked.index[:MOST_DRAWN])]
    labels = list(drawn["label"])
    trainings = {label: comparison.members[key, label] for label in labels}
    newest = {label: runs[0] for label, runs in trainings.items()}
    answers = {label: answers_of(runs) for label, runs in trainings.items()}
    answers = {label: found for label, found in answers.items() if found}
    share = metric in PERCENT and higher
    everyone = (run for runs in trainings.values() for run in runs)
    machines = sorted({run["machine"] for run in everyone if isinstance(run.get("machine"), str)})
    title = tables.title(comparison, key, rows)

    def item(name: str, figure: Figure, caption: str, numbers: str = "") -> dict[str, str]:
        alternative = f"{caption} {numbers}".strip()
        return {"svg": charts.svg(figure, name=f"{name}-{number}", alternative=alternative), "caption": caption}

    def trade_offs() -> Iterator[dict[str, str]]:
        for cost, text in COSTS.items():
            if drawn[cost].notna().sum() > 1:
                figure = charts.trade_off(
                    drawn, metric, cost, names=(f"test {metric}", text), share=share, higher=higher
                )
                yield item(f"cost-{cost}", figure, f"Test {metric} against {text}.", listing(drawn, metric, cost))

    best = drawn[metric].agg("max" if higher else "min")
    forest = charts.forest(drawn, metric, name=f"test {metric}", share=share, best=best)
    numbers = listing(drawn, metric, "low", "high", form=metric)
    return {
        "title": title,
        "verdict": verdict(comparison, key, rows),
        "caption": f"On {title}{f'; times measured on {enumeration(machines)}' if machines else ''}.",
        "columns": [{"heading": "architecture"}, *({"heading": HEADINGS[name]} for name in columns(rows))],
        "rows": [table_row(comparison, row, columns(rows)) for row in rows.to_dict("records")],
        "forest": [item("forest", forest, f"Test {metric} and its 95 % interval.", numbers)],
        "trade_offs": list(trade_offs()),
        "trade_offs_text": (
            f"{'Up' if higher else 'Down'} and to the left is better. The dotted line joins those that nothing beats "
            "in both: the Pareto front. Bars are 95 % intervals."
        ),
        "shown": "" if len(drawn) == len(rows) else f"Drawn are the best {len(drawn)} of {len(rows):,}.",
        "p_values": [item("pairs", *p_value_matrix(comparison, key, labels))] if len(drawn) > 1 else [],
        "learning": [item(*parts) for parts in learning(newest, labels)],
        "corruption": [item(*parts) for parts in robustness(newest, labels)],
        "corruption_text": (
            f"Accuracy on up to {IMAGES} test images, at severity 0 as they are; the newest training of each."
        ),
        "confusion": [
            item(f"confusion-{position}", *confusion(found, label))
            for position, (label, found) in enumerate(answers.items())
        ],
        "hard": hard_images(answers, newest) if len(answers) > 1 else [],
        "protocol": list(comparison.protocols[key].items()),
        "labels": labels,
        "parameters": differing(newest),
        "reproduce": list(reproduce(newest)),
    }


# --- Words ---------------------------------------------------------------------------------------------------------


def verdict(comparison: Comparison, key: str, rows: pd.DataFrame) -> str:
    """Who is best, who cannot be told from it, and what the others lack."""
    metric = comparison.metric
    ranked = rows.sort_values(metric, ascending=metric not in HIGHER_IS_BETTER, kind="stable")
    ranked = ranked[ranked[metric].notna()]
    if ranked.empty:
        return f"No training under this protocol has the metric {metric}."
    best = ranked[ranked["verdict"] == "best"].iloc[0]
    unit = " %" if metric in PERCENT else ""
    images = comparison.protocols[key].get("test_images")
    measured = f"the {images:,} test images" if images else "the test images"
    sentences = []
    others = "the only architecture here" if len(ranked) == 1 else f"the best of {len(ranked)}"
    interval = ""
    if pd.notna(best["low"]):
        interval = (
            f", 95 % interval {tables.number(metric, best['low'])} to {tables.number(metric, best['high'])}{unit}"
        )
    seeds = f"{best['seeds']} seeds" if best["seeds"] > 1 else "one seed"
    sentences.append(
        f"{best['label']}, {others}, has {tables.number(metric, best[metric])}{unit} {metric.replace('_', ' ')}"
        f"{f' on {measured}' if METRICS[metric].startswith('test/') else ''} ({seeds}{interval})."
    )
    tied, worse = (ranked[ranked["verdict"] == word] for word in ("tied", "worse"))
    if len(tied):
        sentences.append(f"It cannot be told from {enumeration(tied['label'])}: the differences may be chance.")
    if len(worse):
        low, high = (tables.number(metric, worse["behind"].agg(which)) for which in ("min", "max"))
        distance = f"{low} to {high}" if low != high else low
        points = " percentage points" if metric in PERCENT else ""
        verb = "is" if len(worse) == 1 else "are"
        sentences.append(f"{enumeration(worse['label'])} {verb} worse, by {distance}{points}.")
    untested = ranked[(ranked["verdict"] == "") & (ranked["label"] != best["label"])]
    if len(untested):
        sentences.append(f"Whether {enumeration(untested['label'])} differs from it was not tested.")
    top = ranked[ranked["verdict"].isin(["best", "tied"])]
    if len(top) > 1:
        words = {
            "train_s": ("trained fastest", "s"),
            "latency_p50_ms": ("answers fastest", "ms an image"),
            "parameters": ("is smallest", "parameters"),
        }
        cheapest = [
            f"{top.loc[top[cost].idxmin(), 'label']} {says} ({tables.number(cost, top[cost].min())} {unit_of_cost})"
            for cost, (says, unit_of_cost) in words.items()
            if top[cost].notna().all()
        ]
        if cheapest:
            sentences.append(f"Of the best and those tied with it, {enumeration(cheapest)}.")
    return " ".join(sentences)


def enumeration(words: Sequence[str]) -> str:
    """Words joined as in a sentence; of many the first ones and how many more."""
    words = list(words)
    if len(words) > MOST_DRAWN:
        words = [*words[:MOST_DRAWN], f"{len(words) - MOST_DRAWN:,} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def listing(rows: pd.DataFrame, *names: str, form: str = "") -> str:
    """The numbers of a drawing for those who cannot see it, each in the form of its column or of another."""

    def numbers(row: Mapping[str, Any]) -> str:
        return " / ".join(tables.number(form or name, row[name]) or "unknown" for name in names)

    return "; ".join(f"{row['label']} {numbers(row)}" for row in rows.to_dict("records")) + "."


# --- Tables --------------------------------------------------------------------------------------------------------


def columns(rows: pd.DataFrame) -> list[str]:
    """The columns that have something to say."""
    return [name for name in HEADINGS if name in ("verdict", "seeds") or rows[name].notna().any()]


def table_row(comparison: Comparison, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A row of the page's table: each cell's text, and the number it stands for as the comparison has it."""
    cells = []
    for name in names:
        value = row[name]
        if name == "verdict":
            text, number = tables.verdict(comparison.metric, row), None
        elif name == "seeds":
            text, number = str(value), value
        elif name == "pretrained":
            text, number = {True: "yes", False: "no"}.get(value, ""), None
        else:
            format_as = comparison.metric if name in ("low", "high") else name
            text = tables.number(format_as, value, row.get(f"{name}_std"))
            number = None if pd.isna(value) else repr(float(value))
        cells.append({"column": name, "value": number, "text": text})
    return {"label": tables.shown(row), "verdict": row["verdict"], "cells": cells}


def differing(newest: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """The params in which the trainings differ, but for what follows from the architecture's name and the seed."""
    skipped = ("params.model", "params.seed", "params.architecture_sha256")
    names = sorted({name for run in newest.values() for name in run if name.startswith("params.")} - {*skipped})

    def text(run: Mapping[str, Any], name: str) -> str:
        value = run.get(name)
        return "" if not isinstance(value, str) else value[:SHOWN] if name.endswith("sha256") else value

    values = {name: [text(run, name) for run in newest.values()] for name in names}
    return [(name.removeprefix("params."), row) for name, row in values.items() if len(set(row)) > 1]


def reproduce(newest: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Code, command, data, libraries and machine of the trainings."""
    tags = {
        "commit": "mlflow.source.git.commit",
        "command": "command",
        "data set": "dataset",
        "SHA-256 of the data set": "dataset_sha256",
        "torch": "torch",
        "torchvision": "torchvision",
        "machine": "machine",
    }
    for name, tag in tags.items():
        values = [run[tag] for run in newest.values() if tag in run and pd.notna(run[tag])]
        if values:
            yield name, [str(value) for value in dict.fromkeys(values)]
    yield "run ids", [f"{label}: {run['run_id']}" for label, run in newest.items()]


# --- Drawings ------------------------------------------------------------------------------------------------------


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


def learning(newest: Mapping[str, Mapping[str, Any]], labels: Sequence[str]) -> Iterator[Drawing]:
    """Accuracy on validation images over seconds and over epochs, and loss over epochs."""

    def histories(name: str) -> dict[str, dict[int, float]]:
        return {label: queries.series(run["run_id"], name) for label, run in newest.items()}

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


def robustness(
    newest: Mapping[str, Mapping[str, Any]], labels: Sequence[str]
) -> Iterator[tuple[str, Figure, str, str]]:
    """Accuracy over the severity of each corruption: name, drawing, caption, numbers."""
    for name in CORRUPTIONS:
        key = f"corruption/{name}"
        curves = {label: queries.series(run["run_id"], key) for label, run in newest.items() if pd.notna(run.get(key))}
        if curves:
            text = name.replace("_", " ")
            worst = "; ".join(f"{label} {list(curve.values())[-1]:.1%}" for label, curve in curves.items())
            figure = charts.curves(curves, labels, x=f"severity of {text}", y="test accuracy", share=True)
            yield f"corruption-{name}", figure, f"{text.capitalize()}.", f"At its worst: {worst}."


def answers_of(runs: Sequence[Mapping[str, Any]]) -> list[pd.DataFrame]:
    """What the trainings of one architecture answered, of those whose answers are at hand."""
    return [found for run in runs[:MOST_TESTED] if (found := queries.read_predictions(run)) is not None]


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
    answers: Mapping[str, Sequence[pd.DataFrame]], newest: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The test images that most architectures get wrong, those of most errors first."""
    first = {label: found[0] for label, found in answers.items()}
    wrong = np.array([(table["target"] != table["prediction"]).to_numpy() for table in first.values()])
    counts = wrong.sum(0)
    candidates = np.flatnonzero(2 * counts > len(wrong))
    candidates = candidates[np.argsort(-counts[candidates], kind="stable")][:HARD_IMAGES]
    pictures: dict[int, np.ndarray] = {}
    for run in newest.values():
        if not set(candidates) <= set(pictures) and (content := queries.read_artifact(run, "errors.npz")):
            with np.load(io.BytesIO(content), allow_pickle=False) as kept:
                pictures |= {int(index): image for index, image in zip(kept["index"], kept["images"], strict=True)}
    targets = next(iter(first.values()))["target"]
    found = []
    for index in candidates:
        if int(index) in pictures:
            said = {label: table["prediction"][index] for label, table in first.items()}
            by_answer: dict[str, list[str]] = {}
            for label, answer in said.items():
                by_answer.setdefault(answer, []).append(label)
            text = "; ".join(f"{answer} by {', '.join(by)}" for answer, by in by_answer.items())
            found.append(
                {
                    "source": photo.data_uri(255 - pictures[int(index)]),
                    "alternative": f"A picture of {targets[index]}, taken for {text}.",
                    "index": f"{index:,}",
                    "target": targets[index],
                    "wrong": counts[index],
                    "of": len(wrong),
                    "answers": ", ".join(answer for answer in by_answer if answer != targets[index]),
                }
            )
    return found
