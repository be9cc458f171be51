"""Tables with an image a row: which columns are its pixels, told by the heading or by the values, never guessed."""

import csv
import gzip
import math
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data.forms.columns import INDEX, LABELS, are_numbered, by_names, is_number
from pipeline.data.idx import mistaken_for
from pipeline.errors import InputError, first_line

ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
SEPARATORS = ",;\t"
# A row of 4096 x 4096 px would not fit: nothing that is read is longer.
MAX_LINE = 10_000_000


def read_rows(
    file: Path, shape: tuple[int | None, int | None], *, rows: int
) -> Iterator[tuple[np.ndarray, tuple[int, int]]]:
    """Pixels, float (N, height * width), so many rows at a time, and height and width.

    Args:
        shape: height and width of an image, if it has so many pixels; otherwise it is square.

    Raises:
        InputError: it is no such table; the text begins with the file's name.
    """
    compressed = file.suffix.lower() == ".gz"
    try:
        # Excel begins a file with a mark of the encoding.
        with (
            gzip.open(file, "rt", encoding="utf-8-sig", errors="replace")
            if compressed
            else file.open(encoding="utf-8-sig", errors="replace") as opened
        ):
            lines = (line.strip("\r\n") for line in iter(lambda: opened.readline(MAX_LINE), "") if line.strip(" \r\n"))
            first, second = next(lines, ""), next(lines, "")
        if len(first) >= MAX_LINE:
            raise InputError(f"{file} begins with a line of {MAX_LINE:,} characters or more: an image is a line.")
        with gzip.open(file) if compressed else file.open("rb") as beginning:
            mistaken = mistaken_for(beginning.read(64))
        if mistaken:
            raise InputError(f"{file} {mistaken}.")
        separator = max(SEPARATORS, key=first.count)
        names = [name.strip().strip('"') for name in first.split(separator)]
        heading = are_numbered(names) or not all(is_number(name) for name in names)
        if heading:
            check_heading(names, next(csv.reader([second], delimiter=separator), []), file)
        known = by_names(names) if heading else None
        # In the order of the image; whatever else the table has may be text.
        order = np.array(known.pixels) if known and image_size(len(known.pixels), shape) else None
        with pd.read_csv(
            file,
            sep=separator,
            header=0 if heading else None,
            index_col=False,
            names=None if order is None else range(len(names)),
            dtype=np.float64 if order is None else dict.fromkeys(order.tolist(), np.float64),
            encoding="utf-8-sig",
            chunksize=rows,
            compression="gzip" if compressed else None,
        ) as table:
            pixels = None if order is None else np.arange(len(order))
            for part in table:
                values = (part if order is None else part[order]).to_numpy()
                if pixels is None:
                    pixels = pixel_columns(names if heading and not are_numbered(names) else None, values, shape, file)
                yield values[:, pixels], image_size(len(pixels), shape) or (0, 0)
    except (ValueError, OverflowError, EOFError, csv.Error, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(f"{file} is no table of whole numbers: {first_line(error)}.") from error


def check_heading(names: list[str], values: list[str], file: Path) -> None:
    """Refuse a first row that is longer than the heading: nobody knows which of its values has no name.

    Raises:
        InputError: it is; the text begins with the file's name.
    """
    # A separator at the end of a line is no value.
    count = len(values) - (values[-1:] == [""])
    if count > len(names):
        raise InputError(
            f"{file} has rows of {count} values under a heading of {len(names)} names: name every column, also one of "
            "the rows' own names, or leave it out (row.names = FALSE in R)."
        )


def pixel_columns(
    names: list[str] | None, values: np.ndarray, shape: tuple[int | None, int | None], file: Path
) -> np.ndarray:
    """The positions of the columns that hold pixels.

    Args:
        names: of the columns, where the table has a heading.
        values: of the first rows, (N, columns).

    Raises:
        InputError: that cannot be told; the text begins with the file's name.
    """
    columns = np.arange(values.shape[1])
    # A separator at the end of each line makes a column of nothing.
    if np.isnan(values[:, -1]).all() and not (names and names[-1]):
        columns = columns[:-1]
    if names:
        columns = np.array([at for at in columns if names[at].lower() not in (*LABELS, *INDEX)], int)
        if image_size(len(columns), shape):
            return columns
    elif image_size(len(columns), shape):
        return columns
    elif image_size(len(columns) - 1, shape):
        # A margin's pixel is the same in all images, and a label is not.
        first, last = (len(np.unique(values[:, at])) > 1 for at in (columns[0], columns[-1]))
        if len(values) == 1:
            first, last = values[0, columns[0]] != 0, values[0, columns[-1]] != 0
        if first != last:
            return columns[1:] if first else columns[:-1]
        raise InputError(
            f"{file} has rows of {len(columns)} values without a heading, of which the first or the last may be the "
            "label: give the columns names, such as label and pixel0, or leave the label out."
        )
    raise InputError(
        f"{file} has rows of {len(columns)} values: a square image, or a label and one, is due; columns besides "
        f"need names that say so ({', '.join(LABELS)}, {', '.join(filter(None, INDEX))})."
    )


def image_size(values: int, shape: tuple[int | None, int | None]) -> tuple[int, int] | None:
    """Height and width of the image of so many pixels."""
    if shape[0] and shape[1] and values == shape[0] * shape[1]:
        return shape[0], shape[1]
    side = math.isqrt(max(0, values))
    return (side, side) if side > 1 and side**2 == values else None
