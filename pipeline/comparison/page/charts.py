"""A report's drawings, as SVG that takes the page's own font and colours."""

import io
import math
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
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullFormatter

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
# Marks of an axis that shows how few errors are left.
SHARES = (0.1, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999)
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
    axis.set(xlabel=names[1], ylabel=names[0])
    if len(known):
        factors(axis)
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


def differences(rows: pd.DataFrame, *, name: str, scale: float, margin: float | None) -> Figure:
    """How far each architecture is behind the best, with its interval, and the margin within which it would not matter.

    Args:
        rows: of the comparison's table, with label, gap_to_best, gap_low and gap_high.
        scale: what the gaps are shown times.
    """
    figure, axis = canvas(5.2, 0.9 + 0.38 * len(rows))
    style = styles(list(rows["label"]))
    for position, row in enumerate(rows.to_dict("records")):
        look = style[row["label"]]
        axis.plot(scale * row["gap_to_best"], position, look["marker"], color=look["color"])
        # The interval of an adjusted test need not be even about the difference of the means.
        axis.plot([scale * row["gap_low"], scale * row["gap_high"]], [position] * 2, "-|", color=look["color"])
    axis.axvline(0, color=GRID, linestyle=":", zorder=0)
    if margin:
        axis.axvspan(-scale * margin, scale * margin, color=GRID, alpha=0.2, zorder=0)
    axis.set_yticks(range(len(rows)), rows["label"])
    axis.invert_yaxis()
    axis.set_xlabel(name)
    return figure


def ranks(mean: pd.Series, critical: float) -> Figure:
    """The mean rank of each architecture, with a bar as long as two must be apart to be told apart."""
    figure, axis = canvas(5.2, 0.9 + 0.38 * len(mean))
    for position, (label, look) in enumerate(styles(list(mean.index)).items()):
        axis.errorbar(mean[label], position, xerr=critical / 2, fmt=look["marker"], color=look["color"], capsize=4)
    axis.set_yticks(range(len(mean)), mean.index)
    axis.invert_yaxis()
    # All ranks that there can be: equal ones shall not look like far apart.
    left, right = axis.get_xlim()
    axis.set_xlim(min(left, 0.9), max(right, len(mean) + 0.1))
    axis.set_xlabel("mean rank")
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
        # Of many points a few are marked, enough to tell the lines apart.
        apart = max(1, len(points) // 12)
        look = style[label] | {"markersize": 4, "markevery": apart, "linewidth": 1.4}
        axis.plot(list(points), list(points.values()), label=label, **look)
    axis.set(xlabel=x, ylabel=y)
    if log:
        factors(axis)
    if share:
        shares(axis, stretched=log_errors)
    axis.legend(fontsize=8, framealpha=0)
    return figure


def probabilities(matrix: pd.DataFrame, *, filled: pd.DataFrame, digits: int) -> Figure:
    """A probability for each pair, row against column.

    Args:
        filled: bool, which cells stand out.
    """
    count = len(matrix)
    figure = Figure(figsize=(1.8 + 0.62 * count, 1.4 + 0.5 * count), layout="constrained")
    axis = figure.subplots()
    values, least = matrix.to_numpy(dtype=float), 10.0**-digits
    axis.imshow(np.where(filled, 1.0, np.nan), cmap=FILL, vmin=0, vmax=2)
    for row, column in np.argwhere(~np.isnan(values)):
        value = values[row, column]
        text = f"{value:.{digits}f}".lstrip("0") if least <= value < 1 - least / 2 else f"{value:.0f}"
        if 0 < value < least:
            text = f"<{least:.{digits}f}".replace("0.", ".")
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
    """Label an axis of shares in percent; stretched, every factor of the error rate takes about the same room."""
    scale = axis.xaxis if which == "x" else axis.yaxis
    if stretched:
        drawn = [line.get_xdata() if which == "x" else line.get_ydata() for line in axis.lines]
        errors = 1 - np.concatenate([np.asarray(values, float).ravel() for values in drawn] or [np.zeros(1)])
        least = errors[errors > 0].min(initial=0.5)
        # An axis of error rates has no end: that of 100 % stands where half of the least one would.
        room = least / 2
        functions = (lambda share: -np.log(np.maximum(1 + room - share, 1e-9)), lambda y: 1 + room - np.exp(-y))
        (axis.set_xscale if which == "x" else axis.set_yscale)("function", functions=functions)
        low, high = 1 - min(1, 1.3 * errors.max(initial=0)), 1 - least / 1.3 if errors.min() > 0 else 1 + room / 4
        (axis.set_xlim if which == "x" else axis.set_ylim)(low, high)
        marks = [share for share in SHARES if low <= share <= min(high, 1 - room)] + ([1.0] if high > 1 else [])
        # Side by side there is less room for them than one above the other.
        apart = (functions[0](high) - functions[0](low)) / (MAX_MARKS if which == "x" else 3 * MAX_MARKS)
        spaced: list[float] = []
        for mark in reversed(marks):
            if not spaced or functions[0](spaced[-1]) - functions[0](mark) >= apart:
                spaced.append(mark)
        scale.set_major_locator(FixedLocator(spaced))
    scale.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))


def factors(axis: Axes) -> None:
    """Let the values to the right grow by factors, labelled at a few round numbers, however near they are."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for steps in ((1, 2, 5), (1, 3), (1,)):
        marks = [step * 10.0**decade for decade in decades for step in steps if low <= step * 10.0**decade <= high]
        if len(marks) <= MAX_MARKS:
            break
    marks = marks[:: -(-len(marks) // MAX_MARKS) or 1]
    if len(marks) < 2:
        marks = [mark for mark in MaxNLocator(3).tick_values(low, high) if low <= mark <= high]
    axis.xaxis.set_major_locator(FixedLocator(marks))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: rounded(value)))
    axis.xaxis.set_minor_formatter(NullFormatter())


def rounded(value: float) -> str:
    """A round number in little room."""
    size, unit = next(((size, unit) for size, unit in ((1e6, " M"), (1e4, " k")) if value >= size), (1, ""))
    return f"{value / (1e3 if unit == ' k' else size):,g}{unit}"
