"""A comparison as one page that needs nothing but itself: no network, no script, no other file."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from pipeline.comparison import needs, tables
from pipeline.comparison.compare import Comparison
from pipeline.comparison.judging.votes import ALL
from pipeline.comparison.page import charts, drawings
from pipeline.comparison.page.answers import by_class, doubted, hard_images
from pipeline.comparison.page.drawings import MAX_DRAWN, SECTIONS, Group, Section
from pipeline.comparison.protocol import SHOWN
from pipeline.data.corruptions import CORRUPTIONS, IMAGES
from pipeline.metrics.catalog import HIGHER_IS_BETTER, METRICS, PERCENT
from pipeline.tracking import schema
from pipeline.tracking.training_run import TrainingRun, machines

# Column of the table on the page: its heading. The first that fit a narrow screen are those that decide.
HEADINGS = {
    "accuracy": METRICS["accuracy"].heading,
    "low": "95 % from",
    "high": "to",
    "verdict": "verdict",
    # What decides between equally good ones comes before what explains.
    **{name: METRICS[name].heading for name in ("train_s", "latency_p50_ms", "parameters")},
    "seeds": "seeds",
    **{name: metric.heading for name, metric in METRICS.items()},
    "pretrained": "pretrained",
    "epochs": "epochs",
    "images_seen": "images seen",
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
        across=across(comparison),
        groups=[
            group(comparison, key, rows, number) for number, (key, rows) in enumerate(comparison.groups(), start=1)
        ],
        notes=[*tables.notes(comparison), *NOTES],
    )


def across(comparison: Comparison) -> list[dict[str, Any]]:
    """What the page says of several data sets, and of several numbers of training images."""
    over = comparison.over_datasets
    sections = [
        *([drawings.over_datasets(over, comparison.metric)] if over else []),
        *(drawings.over_sizes(one, comparison.metric) for one in comparison.over_sizes),
    ]
    return [
        {
            **section("across", content, -number),
            "title": part.title,
            "columns": list(part.text.columns),
            "rows": part.text.to_numpy().tolist(),
        }
        for number, (content, part) in enumerate(zip(sections, tables.parts_across(comparison), strict=True), start=1)
    ]


def group(comparison: Comparison, key: str, rows: pd.DataFrame, number: int) -> dict[str, Any]:
    """Everything the page says of the trainings under one protocol."""
    drawn = Group(comparison, key, rows)
    sections = [section(draw.__name__, draw(drawn), number) for draw in SECTIONS]
    classes = by_class(drawn.answers)
    suspected = doubted(drawn.answers, drawn.newest, drawn.results)
    hard = hard_images(drawn.answers, drawn.newest, drawn.results, suspected) if len(drawn.answers) > 1 else []
    measured_on = machines(run for runs in drawn.trainings.values() for run in runs)
    title = tables.title(comparison, key)
    return {
        "title": title,
        "verdict": verdict(comparison, key, rows),
        "caption": f"On {title}{f'; times measured on {enumeration(measured_on)}' if measured_on else ''}.",
        "columns": [
            {"heading": "architecture"},
            *({"heading": heading(name, comparison.metric)} for name in columns(rows)),
        ],
        "rows": [
            table_row(comparison, row, columns(rows))
            for row in tables.with_votes(comparison, key, rows).to_dict("records")
        ],
        "sections": [part for part in sections if part["drawings"] or not part["needs_drawings"]],
        "classes": classes,
        "answered": list(drawn.answers),
        "hard": hard,
        "doubted": doubt(suspected, drawn),
        "protocol": list(comparison.protocols[key].items()),
        "labels": drawn.labels,
        "parameters": differing(drawn.newest),
        "reproduce": list(reproduce(drawn.newest)),
    }


def section(name: str, content: Section, number: int) -> dict[str, Any]:
    """A section of drawings, as the page's template takes it."""
    items = []
    for drawing in content.drawings:
        alternative = f"{drawing.caption} {drawing.numbers}".strip()
        svg = charts.svg(drawing.figure, name=f"{drawing.name}-{number}", alternative=alternative)
        items.append({"svg": svg, "caption": drawing.caption})
    return {
        "id": f"{name}-{number}",
        "heading": content.heading,
        "text": content.text,
        "drawings": items,
        "kind": "small" if content.small else "",
        "abreast": abreast(len(items), content.small),
        "needs_drawings": content.needs_drawings,
    }


def abreast(count: int, small: bool) -> int:
    """How many drawings to set side by side on a wide screen, so that the last one does not stand alone."""
    for columns in (3, 4, 2) if small else (2, 3):
        if count % columns != 1 and count >= columns:
            return columns
    return min(count, 2) or 1


# --- Words ---------------------------------------------------------------------------------------------------------


def verdict(comparison: Comparison, key: str, rows: pd.DataFrame) -> str:
    """Who is best, who is as good, what the others lack, and of whom that is not known."""
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
        f"{f' on {measured}' if METRICS[metric].on_test_images else ''} ({seeds}{interval})."
    )
    by_verdict = {word: ranked[ranked["verdict"] == word] for word in ("equivalent", "worse", "undecided")}
    if len(equivalent := by_verdict["equivalent"]):
        verb = "is" if len(equivalent) == 1 else "are"
        margin = tables.within(metric, best["margin"]).replace("pp", "percentage points")
        sentences.append(f"{enumeration(equivalent['label'])} {verb} equivalent to it within {margin}.")
    if len(worse := by_verdict["worse"]):
        distances = [tables.limits(metric, *row) for row in worse[["gap_low", "gap_high"]].itertuples(index=False)]
        distances[-1] += " percentage points" if metric in PERCENT else ""
        sentences.append(
            enumeration(
                [
                    f"{label} {'is worse ' if not place else ''}by {distance}"
                    for place, (label, distance) in enumerate(zip(worse["label"], distances, strict=True))
                ]
            )
            + "."
        )
    if len(undecided := by_verdict["undecided"]):
        sentences.append(
            f"Whether {enumeration(undecided['label'])} {'is' if len(undecided) == 1 else 'are'} as good is undecided: "
            "what was seen may be chance."
        )
        sentences.append(needs.would_decide(ranked))
    for vote in comparison.votes_under(key).to_dict("records"):
        if vote["label"].startswith(ALL):
            sentences.append(f"Together, by vote, they have {tables.number(metric, vote[metric])} %.")
    untested = ranked[(ranked["verdict"] == "") & (ranked["label"] != best["label"])]
    if len(untested):
        sentences.append(f"Whether {enumeration(untested['label'])} differs from it was not tested.")
    top = ranked[ranked["verdict"].isin(["best", "equivalent", "undecided"])]
    if len(top) > 1:
        words = {
            "train_s": ("trained fastest", "s"),
            "latency_p50_ms": ("answers fastest", "ms an image"),
            "parameters": ("is smallest", "parameters"),
        }
        cheapest: dict[str, list[str]] = {}
        for cost, (says, unit_of_cost) in words.items():
            if top[cost].notna().all():
                said = f"{says} ({tables.number(cost, top[cost].min())} {unit_of_cost})"
                cheapest.setdefault(top.loc[top[cost].idxmin(), "label"], []).append(said)
        if cheapest:
            listed = enumeration([f"{label} {', '.join(said)}" for label, said in cheapest.items()])
            sentences.append(f"Of those not shown to be worse, {listed}.")
    return " ".join(filter(None, sentences))


def doubt(images: Sequence[int], drawn: Group) -> str:
    """How many labels of the test file may be wrong, and on which images; nothing without the probabilities."""
    if not images:
        return ""
    count = len(next(iter(drawn.answers.values()))[0])
    shown = enumeration([f"no. {image:,}" for image in images])
    return (
        f"All {len(drawn.answers)} take {len(images):,} of the {count:,} test images for the same other class, as sure "
        f"as they are of that class elsewhere: {shown}. As an estimate so many labels of the test file are wrong, "
        f"{len(images) / count:.2%}, unless it is the images that mislead."
    )


def enumeration(words: Sequence[str]) -> str:
    """Words joined as in a sentence; of many the first ones and how many more."""
    words = list(words)
    if len(words) > MAX_DRAWN:
        words = [*words[:MAX_DRAWN], f"{len(words) - MAX_DRAWN:,} more"]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


# --- Tables --------------------------------------------------------------------------------------------------------


def columns(rows: pd.DataFrame) -> list[str]:
    """The columns that have something to say; how many seeds there are, only where there are several."""
    always = {"verdict": bool(rows["verdict"].any()), "seeds": bool((rows["seeds"] > 1).any())}
    return [name for name in HEADINGS if always.get(name, rows[name].notna().any())]


def heading(name: str, metric: str) -> str:
    """What a column is called."""
    return tables.verdict_heading(metric) if name == "verdict" else HEADINGS[name]


def table_row(comparison: Comparison, row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """A row of the page's table: each cell's text, and the number it stands for as the comparison has it."""
    cells = []
    for name in names:
        value = row[name]
        if name == "verdict":
            text, number = tables.verdict(comparison.metric, row), None
        elif name == "seeds":
            text, number = str(int(value)), repr(int(value))
        elif name == "pretrained":
            text, number = {True: "yes", False: "no"}.get(value, ""), None
        else:
            format_as = comparison.metric if name in ("low", "high") else name
            text = tables.number(format_as, value, row.get(f"{name}_std"))
            number = None if pd.isna(value) else repr(float(value))
        cells.append({"column": name, "value": number, "text": text})
    return {"label": tables.shown(row), "letters": row["letters"], "verdict": row["verdict"], "cells": cells}


def differing(newest: Mapping[str, TrainingRun]) -> list[tuple[str, list[str]]]:
    """The params in which the trainings differ, but for what follows from the architecture's name and the seed."""
    skipped = {"model", "seed", "architecture_sha256"}
    names = sorted({name for run in newest.values() for name in run.params} - skipped)

    def text(run: TrainingRun, name: str) -> str:
        value = run.params.get(name, "")
        return value[:SHOWN] if name.endswith("sha256") else value

    values = {name: [text(run, name) for run in newest.values()] for name in names}
    return [(name, row) for name, row in values.items() if len(set(row)) > 1]


def reproduce(newest: Mapping[str, TrainingRun]) -> Iterator[tuple[str, list[str]]]:
    """Code, command, data, libraries and machine of the trainings."""
    tags = {
        "commit": schema.COMMIT,
        "command": schema.COMMAND,
        "data set": schema.DATASET,
        "SHA-256 of the data set": schema.DATASET_SHA256,
        "torch": schema.TORCH,
        "torchvision": schema.TORCHVISION,
        "machine": schema.MACHINE,
    }
    for name, tag in tags.items():
        if values := [run.tags[tag] for run in newest.values() if tag in run.tags]:
            yield name, list(dict.fromkeys(values))
    yield "run ids", [f"{label}: {run.run_id}" for label, run in newest.items()]
