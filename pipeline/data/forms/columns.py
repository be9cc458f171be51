"""Which columns of a table are pixels, and which is the label."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.names import natural

LABELS = ("label", "labels", "class", "target", "y", "digit")
INDEX = ("", "id", "index", "imageid", "image id", "image_id", "row", "row id", "row_id")
# Fewer are no image; more would take a library that reads columns longer than it takes to draw the images.
MIN_PIXELS, MAX_PIXELS = 36, 65_536


@dataclass(frozen=True)
class Columns:
    """Positions of columns.

    Attributes:
        label: None where there is none.
        pixels: row by row of the image.
        names: of the pixels, where they have such.
        others: names of columns that are neither label nor pixels nor numbers of rows.
    """

    label: int | None
    pixels: tuple[int, ...]
    names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def side(self) -> int:
        """Of the image."""
        return math.isqrt(len(self.pixels))


def is_header(fields: Sequence[str]) -> bool:
    """Whether the first line of a table names its columns rather than holding an image.

    Names may be numbers: of an array without names pandas writes 0, 1, 2, ..., as no image has its pixels.
    """
    if are_numbered(fields):
        return True
    names = [field for field in fields if not is_number(field)]
    return len(names) > len(fields) / 2 or any(name.strip().casefold() in LABELS for name in names)


def are_numbered(fields: Sequence[str]) -> bool:
    """Whether columns are named 0, 1, 2, ..., perhaps after a nameless one with the rows' numbers."""
    numbers = list(fields[1:] if fields[:1] == [""] else fields)
    return len(numbers) >= MIN_PIXELS and numbers == list(map(str, range(len(numbers))))


def is_number(text: str) -> bool:
    """Whether a field of a table is a number, or empty."""
    try:
        float(text or 0)
    except ValueError:
        return False
    return True


def by_names(names: Sequence[str]) -> Columns | None:
    """The columns of a table with a header, whatever their order; None where it is no table of images.

    Pixels are what most names have in common but for numbers (`pixel0`, `1x1`), by these numbers. The label is found by
    its name, or is the only other column and the first or the last; numbers of rows and nameless columns are neither.
    """
    plain = [re.sub(r"^unnamed: \d+$", "", name.strip().casefold()) for name in names]
    named = next((plain.index(label) for label in LABELS if label in plain), None)
    stems = {
        position: re.sub(r"\d+", "#", name)
        for position, name in enumerate(plain)
        if position != named and name not in INDEX
    }
    if not stems:
        return None
    stem, count = Counter(stems.values()).most_common(1)[0]
    if count < MIN_PIXELS:
        return None
    pixels = by_numbers({position: plain[position] for position in stems if stems[position] == stem})
    others = [position for position in stems if stems[position] != stem]
    if named is None and len(others) == 1 and others[0] in (min(stems), max(stems)):
        named = others[0]
    pixel_names = tuple(plain[at] for at in pixels)
    return Columns(named, pixels, pixel_names, tuple(names[at].strip() for at in others if at != named))


def by_numbers(names: Mapping[int, str]) -> tuple[int, ...]:
    """Positions of the columns of pixels, by their names, row by row of the image.

    Of two numbers, as of `1x2` or `x1_y2`, either may be the row: who wrote the columns in the order of either wrote
    images row by row.
    """
    numbers = {position: [int(number) for number in re.findall(r"\d+", name)] for position, name in names.items()}
    written = list(names)
    if {len(found) for found in numbers.values()} == {2} and written == sorted(
        written, key=lambda at: numbers[at][::-1]
    ):
        return tuple(written)
    return tuple(sorted(written, key=lambda at: natural(names[at])))


def by_values(rows: Sequence[Sequence[str]], table: str) -> Columns | None:
    """The columns of a table without a header, of which the first or the last may be the label.

    Args:
        rows: the first of them.

    Raises:
        InputError: either could be.
    """
    # A comma at the end of each row makes an empty column.
    count = len(rows[0]) - all(row[-1] == "" for row in rows)
    if count < MIN_PIXELS:
        return None
    if math.isqrt(count) ** 2 == count:
        return Columns(None, tuple(range(count)))
    if math.isqrt(count - 1) ** 2 != count - 1:
        raise InputError(
            f"{table} has no header, and its rows of {count:,} numbers are no label and a square of pixels: put a line "
            "with names over it, label over the labels."
        )
    check_square(count - 1, table)
    labels = [at for at in (0, count - 1) if could_be_label([row[at] for row in rows if len(row) > at])]
    if len(labels) != 1:
        raise InputError(
            f"{table} has no header, and {'either' if labels else 'neither'} of its first and last column looks like "
            "labels: put a line with names over it, label over the labels."
        )
    return Columns(labels[0], tuple(at for at in range(count) if at != labels[0]))


def could_be_label(values: Sequence[str]) -> bool:
    """Whether it is text, or takes every whole number from its lowest to its highest, as pixels hardly do."""
    try:
        numbers = {float(value) for value in values}
    except ValueError:
        return True
    return len(numbers) > 1 and max(numbers) - min(numbers) == len(numbers) - 1


def check_square(count: int, table: str) -> None:
    """Refuse so many pixels that they make no square or too large a one.

    Raises:
        InputError: how many there are.
    """
    if math.isqrt(count) ** 2 != count or count > MAX_PIXELS:
        raise InputError(
            f"{table} has rows of {count:,} pixels: an image is a square of at most {MAX_PIXELS:,}, and the column of "
            "labels is named label, class, target or y."
        )
