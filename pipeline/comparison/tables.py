"""A comparison as a table for a terminal, for Markdown, or in a file for programs."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipeline.comparison import needs
from pipeline.comparison.compare import Comparison
from pipeline.comparison.judging.datasets import in_words as rank_words
from pipeline.comparison.judging.datasets import ranked_on
from pipeline.comparison.judging.verdicts import FINE_ABOVE, FINE_MARGIN, USUAL_MARGIN
from pipeline.comparison.protocol import SHOWN
from pipeline.comparison.sizes import in_words as size_words
from pipeline.files import TABLES, check_ending, output_file
from pipeline.metrics.catalog import COUNTS, PERCENT, within

WIDTH = 100
DETECTOR_NOTE = (
    "† A detector: the class of its best box in an image counts for accuracy and F1. Its loss is the cross-entropy of "
    "its boxes' scores, another quantity than a classifier's."
)
RAISED = str.maketrans("abcdefghijklmnop", "ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖ")
# What LaTeX reads in its own way, or lacks in its usual fonts.
IN_LATEX = str.maketrans(
    {sign: f"\\{sign}" for sign in "&%$#_{}"}
    | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    | {"±": r"$\pm$", "−": "$-$", "–": "--", "†": r"\dag{}", "‡": r"\ddag{}", "≤": r"$\leq$"}
    | {chr(raised): rf"\textsuperscript{{{chr(letter)}}}" for letter, raised in RAISED.items()}
)
VOTE_NOTE = (
    "‡ An ensemble: the mean of the probabilities of one training of each architecture, or of the seeds of one, judged "
    "against one training of the best, in view of the number of votes. Its costs are its voters' together."
)
BUDGET = ("epochs", "images_seen")
WRITERS = {
    ".csv": lambda comparison, path: comparison.table.to_csv(path, index=False),
    ".md": lambda comparison, path: path.write_text(markdown(comparison) + "\n"),
    ".json": lambda comparison, path: comparison.table.to_json(path, orient="records", indent=2),
    ".tex": lambda comparison, path: path.write_text(latex(comparison)),
    ".parquet": lambda comparison, path: comparison.table.to_parquet(path, index=False),
}


@dataclass(frozen=True)
class Part:
    """One table as text.

    Attributes:
        name: to refer to it by.
        verdicts: a word a row, empty where there is none.
    """

    name: str
    title: str
    text: pd.DataFrame
    verdicts: Sequence[str]


def parts(comparison: Comparison) -> Iterator[Part]:
    """A table for each protocol, one over several data sets, and one a data set over several numbers of images."""
    for key, rows in comparison.groups():
        rows = with_votes(comparison, key, rows)
        name = f"comparison-{key[:SHOWN]}"
        yield Part(name, title(comparison, key), readable(comparison, rows), list(rows["verdict"]))
    yield from parts_across(comparison)


def parts_across(comparison: Comparison) -> Iterator[Part]:
    """Those of `parts` that are of several protocols."""
    unit = " %" if comparison.metric in PERCENT else ""
    if over := comparison.over_datasets:
        text = over.scores.map(lambda value: number(comparison.metric, value))
        text.insert(0, "architecture", [f"{label} {over.letters[label].translate(RAISED)}" for label in text.index])
        text["mean rank"] = over.ranks.map("{:.2f}".format)
        name = f"{ranked_on(over)}: {comparison.metric}{unit} on each, and the mean rank"
        yield Part("over-data-sets", name, text, [""] * len(text))
    for place, sizes in enumerate(comparison.over_sizes, start=1):
        text = sizes.scores.map(lambda value: number(comparison.metric, value)).rename(columns="{:,}".format)
        text.insert(0, "architecture", list(text.index))
        heading = f"{sizes.dataset}: {comparison.metric}{unit} by training images"
        yield Part(f"over-sizes-{place}", heading, text, [""] * len(text))


def show(comparison: Comparison) -> None:
    """Print the comparison, a table for each protocol, and its notes, at most WIDTH columns wide."""
    console = Console(highlight=False, markup=False)
    # A pipe has no width of its own.
    console.width = min(WIDTH, console.width) if console.is_terminal else WIDTH
    for part in parts(comparison):
        # On a narrow terminal the last columns are left out rather than names and numbers cut.
        tables = (rich_table(part, columns=count) for count in range(len(part.text.columns), 1, -1))
        unbounded = console.options.update(max_width=10 * WIDTH)
        fitting = (table for table in tables if console.measure(table, options=unbounded).maximum <= console.width)
        console.print()
        console.print(part.title, style="bold")
        console.print(next(fitting, rich_table(part, columns=2)))
    for note in notes(comparison):
        console.print(f"· {note}")
    console.print()


def rich_table(part: Part, *, columns: int) -> Table:
    """The first columns of a part as a table whose best rows stand out."""
    text = part.text.iloc[:, :columns]
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in text.columns:
        table.add_column(name, justify="left" if is_words(name) else "right", no_wrap=True)
    for cells, verdict in zip(text.itertuples(index=False), part.verdicts, strict=True):
        table.add_row(*cells, style={"best": "bold green", "better": "bold green", "equivalent": "green"}.get(verdict))
    return table


def markdown(comparison: Comparison) -> str:
    """The same in Markdown."""
    texts = [
        f"{part.title}\n\n{part.text.to_markdown(index=False, disable_numparse=True)}\n" for part in parts(comparison)
    ]
    return "\n".join([*texts, *[f"- {note}" for note in notes(comparison)]]).rstrip()


def latex(comparison: Comparison) -> str:
    """The same for a paper: a table of the package booktabs for each protocol, and the notes as comments."""
    texts = []
    for part in parts(comparison):
        text = part.text.map(lambda cell: cell.translate(IN_LATEX))
        texts.append(
            text.rename(columns=lambda name: name.translate(IN_LATEX)).to_latex(
                index=False,
                column_format="".join("l" if is_words(name) else "r" for name in part.text.columns),
                caption=part.title.translate(IN_LATEX),
                label=part.name,
            )
        )
    return "\n".join([*texts, *(f"% {note}" for note in notes(comparison))]) + "\n"


def is_words(heading: str) -> bool:
    """Whether a column has words, not numbers."""
    return heading == "architecture" or heading.startswith("verdict")


def notes(comparison: Comparison) -> list[str]:
    """What the columns mean, then the comparison's own notes."""
    table = comparison.table
    tests = sorted(comparison.pairs["test"].unique())
    explained = {
        "McNemar": "McNemar's exact test on the test images",
        "crossed": "a paired test over images and seeds",
        "Welch": "Welch's test over seeds",
    }
    found = []
    if tests:
        found.append(
            f"Verdict: {comparison.metric} against the best, by {' or '.join(explained[test] for test in tests)}; in "
            "parentheses how far behind the best it is, with 95 % confidence for all pairs at once. "
            f"{margin_in_words(comparison)} Worse: p below 0.05, adjusted for all pairs. Undecided: neither was shown."
        )
        if (table["letters"].str.len() > 0).any():
            found.append("Raised letters: architectures that share one were not told apart.")
    several = len(comparison.protocols) > 1
    for key, rows in comparison.groups():
        if decided := needs.would_decide(rows):
            found.append(f"{comparison.measured_on(key)}, protocol {key[:SHOWN]}: {decided}" if several else decided)
    methods = {
        "Wilson": "of one run, on other images, Wilson's",
        "crossed": "of several seeds, on other images and with other seeds",
        "Student": "of the mean over seeds, on these images, Student's",
    }
    used_methods = {*table["interval"], *(comparison.votes["interval"] if len(comparison.votes) else ())}
    if used := [text for method, text in methods.items() if method in used_methods]:
        found.append(f"95 % confidence interval (CI): {'; '.join(used)}.")
    if table["seeds"].max() > 1:
        found.append("±: standard deviation over seeds.")
    if over := comparison.over_datasets:
        found.append(rank_words(over, comparison.metric))
    for sizes in comparison.over_sizes:
        found.append(size_words(sizes, comparison.metric))
    if len(comparison.votes):
        found.append(VOTE_NOTE)
    if table["map"].notna().any():
        found.append(DETECTOR_NOTE)
        scores = table[table["map"].notna()]
        found += [
            f"{row.label}: mean average precision {row.map:.3f} over overlaps of 50 to 95 %, {row.map_50:.3f} at 50 %, "
            "on scenes made of test images."
            for row in scores.itertuples()
        ]
    return [*found, *comparison.notes]


def title(comparison: Comparison, key: str) -> str:
    """What a group's numbers are measured on."""
    images = comparison.protocols[key].get("test_images")
    return f"{comparison.measured_on(key)}: {f'{images:,} ' if images else ''}test images, protocol {key[:SHOWN]}"


def with_votes(comparison: Comparison, key: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a protocol and, below them, what trainings say together."""
    votes = comparison.votes_under(key)
    if votes.empty:
        return rows
    return pd.concat([rows, votes.assign(ensemble=True, letters="")]).reset_index(drop=True)


def readable(comparison: Comparison, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the table as text."""
    metric = comparison.metric
    columns: dict[str, Any] = {
        "architecture": [
            f"{shown(row)} {row['letters'].translate(RAISED)}".rstrip() for row in rows.to_dict("records")
        ],
        "seeds": rows["seeds"].astype(int).astype(str),
    }
    for name in dict.fromkeys([metric, "accuracy", "f1", "loss", "train_s"]):
        heading = {"f1": "F1", "train_s": "train s"}.get(name, name) + (" %" if name in PERCENT else "")
        deviations = rows.get(f"{name}_std") if name in (metric, "accuracy") else None
        columns[heading] = [
            number(name, value, None if deviations is None else deviations[row]) for row, value in rows[name].items()
        ]
        if name == metric:
            columns["95 % CI"] = [
                "" if pd.isna(low) else f"{number(name, low)}–{number(name, high)}"
                for low, high in zip(rows["low"], rows["high"], strict=True)
            ]
            columns[verdict_heading(metric)] = [verdict(metric, row) for row in rows.to_dict("records")]
    return pd.DataFrame(columns)


def shown(row: Mapping[str, Any]) -> str:
    """A row's label, marked where it is a detector's or an ensemble's."""
    mark = " ‡" if row.get("ensemble") is True else " †" if pd.notna(row["map"]) else ""
    return f"{row['label']}{mark}"


def number(name: str, value: float, deviation: float | None = None) -> str:
    """A value of a column as text: percentages to two decimals, counts whole, others to at least three digits."""
    if pd.isna(value):
        return ""
    scale = 100 if name in PERCENT else 1
    size = math.floor(math.log10(abs(value))) if value else 0
    decimals = 2 if name in PERCENT else 0 if name in COUNTS or name in BUDGET else max(0, 2 - size)
    spread = "" if deviation is None or pd.isna(deviation) else f" ±{deviation * scale:,.{decimals}f}"
    return f"{value * scale:,.{decimals}f}{spread}"


def verdict(metric: str, row: Mapping[str, Any]) -> str:
    """The verdict on a row, and between what limits it is behind the best."""
    if pd.isna(row["gap_low"]):
        return row["verdict"]
    return f"{row['verdict']} ({limits(metric, row['gap_low'], row['gap_high'])})"


def verdict_heading(metric: str) -> str:
    """What the numbers beside a verdict are."""
    return f"verdict ({'pp' if metric in PERCENT else metric} behind)"


def limits(metric: str, low: float, high: float) -> str:
    """Between what two values of a metric are apart, in percentage points if it is a share."""
    scale = 100 if metric in PERCENT else 1
    size = math.floor(math.log10(max(abs(low), abs(high)))) if low or high else 0
    decimals = 2 if metric in PERCENT else max(0, 2 - size)
    # A difference that is nothing when rounded has no sign.
    texts = [f"{round(value * scale, decimals) + 0.0:,.{decimals}f}".replace("-", "−") for value in (low, high)]
    return " to ".join(texts)


def margin_in_words(comparison: Comparison) -> str:
    """Which verdict is `equivalent`, in a sentence."""
    if comparison.table["margin"].isna().all():
        return f"What difference in {comparison.metric} would not matter was not said, so nothing is called equivalent."
    if comparison.margin is None:
        fine, usual, above = (f"{100 * value:g}" for value in (FINE_MARGIN, USUAL_MARGIN, FINE_ABOVE))
        apart = f"{fine} pp where the best is above {above} %, else {usual} pp"
    else:
        apart = f"{within(comparison.metric, comparison.table['margin'].max())}, as was asked for"
    return f"Equivalent: shown to be within {apart}."


def write(comparison: Comparison, path: Path) -> None:
    """Write the table in the format of the file's ending.

    Raises:
        InputError: another ending than csv, md, json, tex or parquet, or a folder that cannot be written.
    """
    check_ending(path, TABLES)
    with output_file(path) as temporary:
        WRITERS[path.suffix](comparison, temporary)
