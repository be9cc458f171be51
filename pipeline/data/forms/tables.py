"""Tables with an image a row: CSV as Kaggle and OpenML have it, parquet as well, also with Hugging Face's pictures."""

import csv
import io
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc
from pyarrow import csv as arrow_csv
from pyarrow import parquet

from pipeline.data.forms.columns import LABELS, Columns, are_numbered, by_names, by_values, check_square, is_header
from pipeline.data.forms.fitting import Fitting, Picture, gather
from pipeline.data.forms.parts import SPLITS, Gathered, Part, Parts, Split, files_below, some, split_of
from pipeline.data.idx import is_compressed, mistaken_for, opened
from pipeline.data.pixels import as_pixels, check_room
from pipeline.errors import InputError, first_line

ENDINGS = re.compile(r"\.((csv|tsv)(\.gz)?|parquet)", re.IGNORECASE)
SEPARATORS = ",;\t"
# No line is longer: what is read at once has twice this size.
MAX_LINE = 1 << 20
MAX_LABEL = 100
# What a label that is missing becomes among fractions.
MISSING = "nan"
BATCH = 1024


@dataclass(frozen=True)
class Table:
    """A file of images, not read yet.

    Attributes:
        names: what its labels stand for, where it says so.
        columns: of a table of pixels; None for one of pictures.
        batches: label and pixels of some rows at a time, or label and picture.
    """

    file: Path
    count: int
    has_labels: bool
    columns: Columns | None
    batches: Callable[[], Iterator[pa.RecordBatch]]
    names: dict[int, str] | None = None


def find(path: Path) -> list[Path]:
    """The files that may be such tables; of a file and its compressed twin the former."""
    files = [file for file in files_below(path) if ENDINGS.fullmatch("".join(file.suffixes[-2:])) or is_plain(file)]
    return [file for file in files if file.suffix.lower() != ".gz" or file.with_suffix("") not in files]


def is_plain(file: Path) -> bool:
    """Whether the ending alone tells a table: a name may have other dots."""
    return bool(ENDINGS.fullmatch(file.suffix))


def read(path: Path, files: list[Path], fitting: Fitting) -> Parts:
    """Read the tables of images among these files; those for validation count to training.

    Raises:
        InputError: there is none, or several data sets, or one cannot be read; the text names the file.
    """
    tables = [table for file in files if (table := examine(file))]
    if not tables:
        raise InputError(
            f"{some(map(str, files))}: no table of images; it has a column of labels and one a pixel, or one of "
            "pictures as the bytes of their files; lists of pixels are not read."
        )
    of_split: dict[Split, list[Table]] = {"train": [], "test": []}
    for table in tables:
        # A folder within the one that is named may tell the part, as Hugging Face's train/0000.parquet.
        told = [split_of(name) for name in reversed(table.file.relative_to(path).parts)]
        of_split[next(filter(None, told), "train")].append(table)
    check_one_set(path, tables)
    if not of_split["train"]:
        raise InputError(f"{path} has a test table, but no training table: train is in the name of one.")
    unlabelled = [table for table in tables if not table.has_labels]
    if lacking := [table for table in of_split["train"] if not table.has_labels]:
        raise InputError(f"{lacking[0].file} has no column of labels: name it label, class, target or y.")
    notes = tuple(f"{table.file} has no labels and is left out." for table in unlabelled)
    tested = [table for table in of_split["test"] if table.has_labels]
    train, said = read_part(of_split["train"], fitting)
    test, also = read_part(tested, fitting) if tested else (None, ())
    return Parts(train, test, of_split["train"][0].names, (*notes, *said, *also))


def check_one_set(path: Path, tables: list[Table]) -> None:
    """Refuse tables whose names differ in more than the part and a number.

    Raises:
        InputError: which there are.
    """
    sets: dict[tuple[str, ...], Path] = {}
    for table in tables:
        stem = re.sub(r"-of-\d+.*", "", table.file.name.split(".")[0].lower())
        sets.setdefault(tuple(word for word in re.split("[^a-z]+", stem) if word and word not in SPLITS), table.file)
    if len(sets) > 1:
        raise InputError(f"{path} holds several data sets, as {some(map(str, sets.values()))}: name a file or folder.")


def read_part(tables: list[Table], fitting: Fitting) -> tuple[Part, tuple[str, ...]]:
    """Images and labels of the tables of one part, and notes."""
    source = str(tables[0].file) if len(tables) == 1 else str(tables[0].file.parent)
    if not any(table.count for table in tables):
        raise InputError(f"{source} has no images.")
    labels: list[np.ndarray] = []
    if tables[0].columns is None:
        images, positions, notes = gather(lambda: pictures(tables), fitting, source, sum(t.count for t in tables))
        for table in tables:
            labels += [as_labels(batch.column("label"), table.file) for batch in table.batches()]
        return Part(images, np.concatenate(labels)[positions], source), notes
    gathered = Gathered(source)
    for table in tables:
        side = table.columns.side if table.columns else 0
        check_room(table.count, side, side, str(table.file))
        with reading(table.file):
            for batch in table.batches():
                label, *pixels = batch.columns
                labels.append(as_labels(label, table.file))
                values = np.stack([as_numbers(column) for column in pixels], 1)
                gathered.add(as_pixels(values, str(table.file)).reshape(-1, side, side))
    if not labels:
        raise InputError(f"{source} has no images.")
    return Part(fitting.arrays(gathered.images(), source), np.concatenate(labels), source), ()


def pictures(tables: list[Table]) -> Iterator[Picture]:
    """Every picture of these tables with a name."""
    for table in tables:
        row = 0
        with reading(table.file):
            for batch in table.batches():
                for content in batch.column("image"):
                    content = content["bytes"] if isinstance(content, pa.StructScalar) else content
                    yield f"{table.file}, row {row},", content.as_py() or b""
                    row += 1


def as_labels(column: pa.Array, file: Path) -> np.ndarray:
    """Labels as whole numbers or text.

    Raises:
        InputError: some are missing, or longer than any name.
    """
    if pa.types.is_nested(column.type):
        raise InputError(f"{file} has labels of the type {column.type}: a number or a name an image is due.")
    if pa.types.is_uint64(column.type) and column.null_count < len(column) and pc.max(column).as_py() >= 2**63:
        raise InputError(f"{file} has labels too large for any class, as {pc.max(column).as_py():,}.")
    if not pa.types.is_integer(column.type):
        with reading(file):
            column = column.cast(pa.string())
    if column.null_count or MISSING in (column.unique().to_pylist() if pa.types.is_string(column.type) else []):
        raise InputError(f"{file} has images without a label.")
    if pa.types.is_string(column.type):
        if any(len(label) > MAX_LABEL for label in column.unique().to_pylist()):
            raise InputError(f"{file} has labels of more than {MAX_LABEL} letters.")
        return column.to_numpy(zero_copy_only=False).astype(str)
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def as_numbers(column: pa.Array) -> np.ndarray:
    """A column of pixels; what is missing is not a number."""
    return column.to_numpy(zero_copy_only=False)


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

    return Table(file, 1, columns.label is not None, columns, batches)


def examine_parquet(file: Path) -> Table | None:
    """A table in parquet: pixels in columns, or a column of pictures as the bytes of their files."""
    with parquet.ParquetFile(file) as opened_file:
        schema, count = opened_file.schema_arrow, opened_file.metadata.num_rows
    if twice := [name for name, times in Counter(schema.names).items() if times > 1]:
        raise InputError(f"{file} has several columns of the name {twice[0]!r}: give each a name of its own.")
    picture = next((name for name, kind in zip(schema.names, schema.types, strict=True) if holds_bytes(kind)), None)
    if picture is None:
        columns = by_names(schema.names)
        if columns is None:
            return None
        check_square(len(columns.pixels), str(file))
        wanted = [schema.names[at] for at in (columns.label, *columns.pixels) if at is not None]
        return Table(file, count, columns.label is not None, columns, lambda: rows(file, wanted))
    label = next((name for known in LABELS for name in schema.names if name.casefold() == known), None)
    wanted = [name for name in (label, picture) if name]

    def batches() -> Iterator[pa.RecordBatch]:
        return (batch.rename_columns(["label", "image"]) for batch in rows(file, wanted))

    return Table(file, count, label is not None, None, batches, names_of(schema, label))


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
