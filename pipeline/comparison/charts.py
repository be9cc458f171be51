"""A report's drawings, as SVG that takes the page's own font and colours."""

import io
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

# Told apart with every common colour blindness, on white as on black: Okabe and Ito, "Color Universal Design", 2008.
# With a number of markers that has no factor in common, each pair of colour and marker comes once in 56.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#9a8c00")
MARKERS = "osD^vPX*"
DASHES = ("-", "--", "-.", ":")
# Drawn in this colour is what the page's text colour replaces.
INK = "#000000"
GRID = "#808080"
# From nothing to so much of a colour that text on it can be read on white and on black.
FILL = LinearSegmentedColormap.from_list("fill", [(0.84, 0.37, 0.0, 0.12), (0.84, 0.37, 0.0, 0.6)])
# Marks of an axis that shows how few errors are left; at 100 % it would have no end.
SHARES = (0.1, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
MAX_SHARE = 0.9999
MAX_MARKS = 6
# Beyond this many rows or columns the numbers in a matrix cannot be read.
MAX_ANNOTATED = 14


def svg(figure: Figure, *, name: str, alternative: str) -> Markup:
    """A figure as an SVG element, with a text for those who cannot see it.

    Args:
        name: unique on the page, so that references within one drawing do not reach into another.
        alternative: what is to be seen.
    """
    file = io.StringIO()
    # Text stays text: small, searchable, in the page's font. The salt makes ids the same on every run.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    drawing = re.sub(r"<metadata>.*?</metadata>", "", drawing, flags=re.DOTALL)
    drawing = re.sub(r'(id="|url\(#|xlink:href="#)', rf"\g<1>{name}-", drawing)
    # As wide as the page lets it be, up to a size at which its letters are as large as the page's.
    drawing = re.sub(r'(?<=<svg)[^>]*? (viewBox="[^"]*")[^>]*>', r" \1>", drawing, count=1)
    label = f'role="img" aria-label="{escape(alternative)}" style="max-width: {7.5 * figure.get_figwidth():.0f}rem"'
    drawing = drawing.replace("<svg", f'<svg {label} xmlns:xlink="http://www.w3.org/1999/xlink"', 1)
    return Markup(drawing)


def styles(labels: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Colour, marker and dash of each architecture, the same in every drawing."""
    return {
        label: {
            "color": COLOURS[number % len(COLOURS)],
            "marker": MARKERS[number % len(MARKERS)],
            "linestyle": DASHES[number // len(COLOURS) % len(DASHES)],
        }
        for number, label in enumerate(labels)
    }


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty drawing in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    axis = figure.subplots()
    axis.grid(color=GRID, alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def trade_off(
    rows: pd.DataFrame, metric: str, cost: str, *, names: tuple[str, str], share: bool, higher: bool
) -> Figure:
    """The metric against what it costs, with 95 % intervals and the Pareto front: nothing is both better and cheaper.

    Args:
        rows: of the comparison's table, with label, metric, low, high and cost.
        names: what metric and cost are called.
        share: whether the metric is a share near 1, shown in percent by what it lacks.
        higher: whether a higher metric is better.
    """
    figure, axis = canvas(5.2, 3.8)
    style = styles(list(rows["label"]))
    known = rows[rows[cost].notna() & rows[metric].notna()]
    for row in known.to_dict("records"):
        look = style[row["label"]]
        axis.errorbar(
            row[cost],
            row[metric],
            yerr=error_bar(row, metric),
            fmt=look["marker"],
            color=look["color"],
            capsize=3,
            label=row["label"],
        )
    front = pareto(known[cost].to_numpy(), (1 if higher else -1) * known[metric].to_numpy())
    axis.plot(known[cost].to_numpy()[front], known[metric].to_numpy()[front], color=GRID, linestyle=":", zorder=0)
    axis.set(xscale="log", xlabel=names[1], ylabel=names[0])
    if share:
        shares(axis, stretched=True)
    axis.legend(fontsize=8, framealpha=0)
    return figure


def error_bar(row: Mapping[str, Any], metric: str) -> list[list[float]] | None:
    """How far a row's 95 % interval reaches to either side of its metric; none where it has no interval."""
    return None if pd.isna(row["low"]) else [[row[metric] - row["low"]], [row["high"] - row[metric]]]


def pareto(costs: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Positions, by rising cost, of those that no other beats in the score for at most the same cost."""
    order = np.lexsort((-scores, costs))
    best = np.maximum.accumulate(scores[order])
    return order[np.concatenate([[True], best[1:] > best[:-1]])] if len(order) else order


def forest(rows: pd.DataFrame, metric: str, *, name: str, share: bool, best: float) -> Figure:
    """Each architecture's metric with its 95 % interval, and a line at the best."""
    figure, axis = canvas(5.2, 0.9 + 0.38 * len(rows))
    style = styles(list(rows["label"]))
    for position, row in enumerate(rows.to_dict("records")):
        look = style[row["label"]]
        axis.errorbar(
            row[metric], position, xerr=error_bar(row, metric), fmt=look["marker"], color=look["color"], capsize=4
        )
    axis.axvline(best, color=GRID, linestyle=":", zorder=0)
    axis.set_yticks(range(len(rows)), rows["label"])
    axis.invert_yaxis()
    axis.set_xlabel(name)
    if share:
        shares(axis, "x", stretched=True)
    return figure


def curves(
    series: Mapping[str, Mapping[int, float] | Mapping[float, float]],
    labels: Sequence[str],
    *,
    x: str,
    y: str,
    share: bool,
    log: bool = False,
    log_errors: bool = False,
) -> Figure:
    """A line for each architecture.

    Args:
        series: by label, y by x.
        labels: of all architectures, which decide on the styles.
        log: whether x grows by factors.
        log_errors: whether what y, a share, lacks to 1 shrinks by factors.
    """
    figure, axis = canvas(5.2, 3.4)
    style = styles(labels)
    for label, points in series.items():
        axis.plot(list(points), list(points.values()), **style[label], markersize=4, linewidth=1.4, label=label)
    axis.set(xlabel=x, ylabel=y, xscale="log" if log else "linear")
    if share:
        shares(axis, stretched=log_errors)
    axis.legend(fontsize=8, framealpha=0)
    return figure


def p_values(matrix: pd.DataFrame, significant: float) -> Figure:
    """Corrected p-values of all pairs; those below `significant` filled."""
    count = len(matrix)
    figure = Figure(figsize=(1.8 + 0.62 * count, 1.4 + 0.5 * count), layout="constrained")
    axis = figure.subplots()
    values = matrix.to_numpy(dtype=float)
    axis.imshow(np.where(values < significant, 1.0, np.nan), cmap=FILL, vmin=0, vmax=2)
    for row, column in np.argwhere(~np.isnan(values)):
        value = values[row, column]
        text = "<.001" if value < 0.001 else f"{value:.3f}".lstrip("0") if value < 1 else "1"
        axis.text(column, row, text, ha="center", va="center", fontsize=8, color=INK)
    axis.set_xticks(range(count), matrix.columns, rotation=45, ha="right")
    axis.set_yticks(range(count), matrix.index)
    axis.spines[:].set_visible(False)
    return figure


def confusion(counts: np.ndarray, outcomes: Sequence[str], title: str) -> Figure:
    """Counts (classes, outcomes), row the truth and column the prediction; errors coloured, hits only counted."""
    figure = Figure(figsize=(4.2, 4.2), layout="constrained")
    axis = figure.subplots()
    errors = counts * (1 - np.eye(*counts.shape))
    axis.imshow(np.where(errors > 0, errors, np.nan), cmap=FILL, vmin=0, vmax=max(1.0, errors.max()))
    if len(outcomes) <= MAX_ANNOTATED:
        for row, column in np.argwhere(counts):
            axis.text(column, row, counts[row, column], ha="center", va="center", fontsize=7, color=INK)
        axis.set_xticks(range(len(outcomes)), outcomes, rotation=0 if max(map(len, outcomes)) < 3 else 60, fontsize=8)
        axis.set_yticks(range(len(counts)), outcomes[: len(counts)], fontsize=8)
    axis.set(xlabel="predicted class", ylabel="true class")
    axis.set_title(title, fontsize=10)
    axis.spines[:].set_visible(False)
    return figure


def shares(axis: Axes, which: str = "y", *, stretched: bool = False) -> None:
    """Label an axis of shares in percent; stretched, every factor of the error rate takes the same room."""
    scale = axis.xaxis if which == "x" else axis.yaxis
    if stretched:
        low, high = axis.dataLim.intervalx if which == "x" else axis.dataLim.intervaly
        most, least = np.clip([1 - low, 1 - high], 1 - MAX_SHARE, 1)
        low, high = 1 - min(1, 1.3 * most), min(MAX_SHARE, 1 - least / 1.3)
        functions = (lambda share: -np.log(1 - np.minimum(share, MAX_SHARE)), lambda y: 1 - np.exp(-y))
        (axis.set_xscale if which == "x" else axis.set_yscale)("function", functions=functions)
        (axis.set_xlim if which == "x" else axis.set_ylim)(low, high)
        marks = [share for share in SHARES if low <= share <= high]
        # Side by side there is less room for them than one above the other.
        scale.set_major_locator(FixedLocator(marks[::2] if which == "x" and len(marks) > MAX_MARKS else marks))
    scale.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
