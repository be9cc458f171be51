"""Tables with an image a row: CSV as Kaggle and OpenML have it, parquet as well, also with Hugging Face's pictures."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import compute as pc

from pipeline.data.forms.fitting import Fitting, Picture, gather
from pipeline.data.forms.parts import (
    Gathered,
    Part,
    Parts,
    Split,
    check_one_set,
    counted,
    files_below,
    set_told,
    some,
    split_told,
)
from pipeline.data.forms.table_files import Table, examine, reading
from pipeline.data.pixels import as_pixels, check_room
from pipeline.errors import InputError

ENDINGS = re.compile(r"\.((csv|tsv)(\.gz)?|parquet)", re.IGNORECASE)
MAX_LABEL = 100
# What a label that is missing becomes among fractions.
MISSING = "nan"


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
        of_split[split_told(table.file, path) or "train"].append(table)
    check_one_set(path, {set_of(table.file, path): table.file for table in reversed(tables)})
    if not of_split["train"]:
        raise InputError(f"{path} has a test table, but no training table: train is in the name of one.")
    unlabelled = [table for table in tables if not table.has_labels]
    if lacking := [table for table in of_split["train"] if not table.has_labels]:
        raise InputError(f"{lacking[0].file} has no column of labels: name it label, class, target or y.")
    check_alike(tables)
    notes = tuple(f"{table.file} has no labels and is left out." for table in unlabelled)
    notes += tuple(
        f"{counted('column', table.others)} of {table.file} that are neither label nor image are left out: "
        f"{some(table.others)}."
        for table in tables
        if table.others
    )
    tested = [table for table in of_split["test"] if table.has_labels]
    train, said = read_part(of_split["train"], fitting)
    test, also = read_part(tested, fitting) if tested else (None, ())
    return Parts(train, test, of_split["train"][0].names, (*notes, *said, *also))


def check_alike(tables: list[Table]) -> None:
    """Refuse tables of one data set whose labels or pixels stand for different things.

    Raises:
        InputError: which they are.
    """
    first, *others = tables
    for other in others:
        if first.names and other.names and first.names != other.names:
            raise InputError(f"{first.file} and {other.file} name their classes otherwise: bring both to the same.")
        pixels = [table.columns.names if table.columns else () for table in (first, other)]
        if sorted(pixels[0]) == sorted(pixels[1]) and pixels[0] != pixels[1]:
            raise InputError(f"{first.file} and {other.file} have their pixels in two orders: bring both to the same.")


def set_of(file: Path, path: Path) -> tuple[str, ...]:
    """What the name of a table tells of its data set: nothing where it is the one that is named."""
    plain = re.sub(r"-of-\d+.*", "", file.name.split(".")[0])
    return set_told(file.with_name(plain), path) if file != path else ()


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
                    if isinstance(content, pa.StructScalar):
                        elsewhere = content.as_py() or {}
                        if not elsewhere.get("bytes") and elsewhere.get("path"):
                            raise InputError(
                                f"{table.file} has the paths of pictures, as {elsewhere['path']}, and not the "
                                "pictures: save them within the table, or as files in folders of classes."
                            )
                        content = content["bytes"]
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
            column = pc.utf8_trim_whitespace(column.cast(pa.string()))
    names = column.unique().to_pylist() if pa.types.is_string(column.type) else []
    if column.null_count or {MISSING, ""} & set(names):
        raise InputError(f"{file} has images without a label.")
    if pa.types.is_string(column.type):
        if any(len(label) > MAX_LABEL for label in names):
            raise InputError(f"{file} has labels of more than {MAX_LABEL} letters.")
        return column.to_numpy(zero_copy_only=False).astype(str)
    return column.to_numpy(zero_copy_only=False).astype(np.int64)


def as_numbers(column: pa.Array) -> np.ndarray:
    """A column of pixels; what is missing is not a number."""
    return column.to_numpy(zero_copy_only=False)
