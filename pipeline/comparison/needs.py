"""What it takes to decide, in words and as a table."""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from pipeline.comparison.judging.planning import Design

# Of more than these a sentence would not be read.
MAX_LISTED = 6
# Of more needs than these the least and the greatest are said.
MAX_SAID = 3
# Of seeds, in a plan.
SEEDS = (2, 3, 5, 10, 20)
NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def would_decide(rows: pd.DataFrame) -> str:
    """What it takes to decide between the best and those of whom nothing is decided, in a sentence."""
    best = rows[rows["verdict"] == "best"]
    rivals: dict[str, list[str]] = {}
    for row in rows[rows["images_needed"].notna()].sort_values("images_needed", kind="stable").itertuples():
        there = {best["seeds"].iloc[0], row.seeds}
        rivals.setdefault(more(row.seeds_needed, there, row.images_needed), []).append(row.label)
    parts = [
        f"{what}{'' if place else ' would decide'} between {best['label'].iloc[0]} and {listing(who)}"
        for place, (what, who) in enumerate(rivals.items())
    ]
    if len(parts) > MAX_SAID:
        parts = [parts[0], parts[-1], "what the others need lies in between"]
    text = f"{'; '.join(parts)}: with 80 % probability, if the differences stay as they are."
    return text[0].upper() + text[1:] if parts else ""


def listing(labels: Sequence[str]) -> str:
    """Some labels, and how many more."""
    others = [f"{len(labels) - MAX_LISTED} more"] if len(labels) > MAX_LISTED else []
    return " or ".join([*labels[:MAX_LISTED], *others])


def more(seeds: float, there: Collection[int], images: float) -> str:
    """So many more seeds of each, or so many in all where one has more than the other, or so many test images."""
    ways = []
    if np.isfinite(seeds) and len(there) > 1:
        ways.append(f"{seeds:.0f} seeds of each")
    elif np.isfinite(seeds):
        number = int(seeds) - max(there)
        ways.append(
            f"{NUMBERS[number] if number < len(NUMBERS) else number} more seed{'s' if number > 1 else ''} of each"
        )
    if np.isfinite(images):
        ways.append(f"about {rounded_up(images):,} test images in all")
    return " or ".join(ways) or "nothing within reach"


def rounded_up(images: float) -> int:
    """To two digits: more would promise too much."""
    size = 10 ** max(0, math.floor(math.log10(images)) - 1)
    return math.ceil(images / size) * size


def plan_table(best: str, designs: Mapping[str, "Design"], margin: float, power: float) -> str:
    """For each rival of the best and each number of seeds, how many test images tell apart / show equivalent."""
    from pipeline.comparison.judging.planning import plan

    rows = []
    for label, design in designs.items():
        cells = {"pair": f"{best}, {label}"}
        for seeds in SEEDS if design.between is not None else (1,):
            numbers = plan(design, margin, power, seeds)
            texts = ["–" if np.isinf(number) else f"{rounded_up(number):,}" for number in numbers]
            cells[f"{seeds} seed{'s' * (seeds > 1)}"] = " / ".join(texts)
        rows.append(cells)
    return pd.DataFrame(rows).fillna("").to_markdown(index=False, disable_numparse=True)
