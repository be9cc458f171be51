"""One file as a table of images, not read yet: CSV, or parquet with pixels or with Hugging Face's pictures."""

import csv
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from pipeline.data.forms.columns import (
    INDEX,
    LABELS,
    Columns,
    are_numbered,
    by_names,
    by_values,
    check_square,
    is_header,
)
from pipeline.data.forms.parts import some
from pipeline.data.idx import is_compressed, mistaken_for, opened
from pipeline.errors import InputError, first_line

SEPARATORS = ",;\t"
# No line is longer: what is read at once has twice this size.
MAX_LINE = 1 << 20
BATCH = 1024
SPLIT_COLUMNS = ("split", "usage", "set", "subset", "partition")
# What a column of pictures is called where there are several of bytes.
PICTURES = ("image", "img", "picture", "png", "jpg", "jpeg", "photo")


@dataclass(frozen=True)
class Table:
    """A file of images, not read yet.

    Attributes:
        names: what its labels stand for, where it says so.
        others: names of columns that are neither label nor image.
        columns: of a table of pixels; None for one of pictures.
        batches: label and pixels of some rows at a time, or label and picture.
    """

    file: Path
    count: int
    has_labels: bool
    columns: Columns | None
    batches: Callable[[], Iterator[pa.RecordBatch]]
    names: dict[int, str] | None = None
    others: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if told := [name for name in self.others if name.casefold() in SPLIT_COLUMNS]:
            raise InputError(
                f"{self.file} has a column '{told[0]}', which may tell training from test: make a table of each, with "
                "train and test in their names, or take it out."
            )
        if self.names and len(set(self.names.values())) < len(self.names):
            raise InputError(f"{self.file} has several classes of the same name: give each a name of its own.")


def examine(file: Path) -> Table | None:
    """What a file has to offer; None where it is no table of images."""
    with reading(file):
        return examine_parquet(file) if file.suffix.lower() == ".parquet" else examine_csv(file)


def examine_csv(file: Path) -> Table | None:
    """A table in text: its separator, header and columns, by its first lines."""
    with opened(file) as beginning:
        content = beginning.read(MAX_LINE)
    if mistaken := mistaken_for(content[:64]):
        raise InputError(f"{file} {mistaken}.")
    text = content.decode("utf-8-sig", errors="replace")
    # The last line may be cut.
    lines = text.splitlines()[: 200 if len(text) < MAX_LINE // 2 else -1][:200]
    if not lines:
        raise InputError(f"{file} is empty, or its first line is longer than any table of images has.")
    separator = max(SEPARATORS, key=lines[0].count)
    rows = [row for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=separator) if row]
    header = is_header(rows[0])
    # Numbers tell no label; the values may.
    named = header and not (are_numbered(rows[0]) and rows[0][0])
    columns = by_names(rows[0]) if named else by_values(rows[header:] or rows, str(file))
    if columns is None:
        return None
    check_square(len(columns.pixels), str(file))
    # Blank lines above the header count, too.
    first = next(number for number, line in enumerate(lines, start=1) if line) if header else 0

    def batches() -> Iterator[pa.RecordBatch]:
        # By positions: names may occur twice.
        kept = [columns.label, *columns.pixels]
        stream = pa.input_stream(str(file), compression="gzip" if is_compressed(file) else None)
        with arrow_csv.open_csv(
            stream,
            arrow_csv.ReadOptions(
                skip_rows=first, column_names=list(map(str, range(len(rows[0])))), block_size=2 * MAX_LINE
            ),
            arrow_csv.ParseOptions(delimiter=separator),
            arrow_csv.ConvertOptions(
                include_columns=list(map(str, kept)),
                null_values=[""],
                strings_can_be_null=True,
                column_types={str(at): pa.string() if at == columns.label else pa.float32() for at in kept},
            ),
        ) as reader:
            yield from reader

    return Table(file, 1, columns.label is not None, columns, batches, others=columns.others)


def examine_parquet(file: Path) -> Table | None:
    """A table in parquet: pixels in columns, or a column of pictures as the bytes of their files."""
    with parquet.ParquetFile(file) as opened_file:
        schema, count = opened_file.schema_arrow, opened_file.metadata.num_rows
    if twice := [name for name, times in Counter(schema.names).items() if times > 1]:
        raise InputError(f"{file} has several columns of the name {twice[0]!r}: give each a name of its own.")
    of_bytes = [name for name, kind in zip(schema.names, schema.types, strict=True) if holds_bytes(kind)]
    named = [name for known in PICTURES for name in of_bytes if name.casefold() == known]
    if len(of_bytes) > 1 and not named:
        raise InputError(f"{file} has the columns {some(of_bytes)} of bytes: name that of the pictures image.")
    picture = next(iter([*named, *of_bytes]), None)
    if picture is None:
        columns = by_names(schema.names)
        if columns is None:
            return None
        check_square(len(columns.pixels), str(file))
        wanted = [schema.names[at] for at in (columns.label, *columns.pixels) if at is not None]
        return Table(file, count, columns.label is not None, columns, lambda: rows(file, wanted), others=columns.others)
    label = next((name for known in LABELS for name in schema.names if name.casefold() == known), None)
    wanted = [name for name in (label, picture) if name]

    def batches() -> Iterator[pa.RecordBatch]:
        return (batch.rename_columns(["label", "image"]) for batch in rows(file, wanted))

    others = tuple(name for name in schema.names if name not in wanted and name.casefold() not in INDEX)
    return Table(file, count, label is not None, None, batches, names_of(schema, label), others)


def rows(file: Path, names: list[str]) -> Iterator[pa.RecordBatch]:
    """Some rows at a time, with these columns in this order."""
    with parquet.ParquetFile(file) as opened_file:
        for batch in opened_file.iter_batches(BATCH, columns=names):
            yield batch.select(names)


def holds_bytes(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold the files of pictures."""
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and holds_bytes(field.type) for field in kind)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def names_of(schema: pa.Schema, label: str | None) -> dict[int, str] | None:
    """What the labels stand for, as Hugging Face writes it into a file."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        return dict(enumerate(map(str, features[label]["names"])))
    except (KeyError, TypeError, ValueError):
        return None


@contextmanager
def reading(file: Path) -> Iterator[None]:
    """What Arrow says of a broken file as one sentence."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError, zlib.error, csv.Error, OverflowError) as error:
        raise InputError(f"{file} cannot be read as a table ({first_line(error)}).") from error
