"""Images from files of several kinds, a block at a time: a million need no more memory than a thousand."""

import math
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.data import idx
from pipeline.errors import InputError, first_line
from pipeline.inference import digitize

PICTURES = (".png", ".jpg", ".jpeg")
# Of large images fewer make a block.
BLOCK = 1024
BLOCK_BYTES = 32_000_000


@dataclass(frozen=True)
class Block:
    """Some images of a file.

    Attributes:
        file: where they are from.
        first: the position of the first in it.
        images: uint8 (N, H, W).
        is_picture: whether it is a photograph or a drawing rather than an array of pixels.
    """

    file: Path
    first: int
    images: np.ndarray
    is_picture: bool = False


def find(path: Path) -> list[Path]:
    """The file itself, or the pictures in a folder and in those within it, by name.

    Raises:
        InputError: there is no such file, or no picture in the folder.
    """
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in PICTURES)
        if not found:
            raise InputError(f"There is no picture in {path}: files ending in {', '.join(PICTURES)} are looked for.")
        return found
    if not path.is_file():
        raise InputError(f"There is no file or folder '{path}'.")
    return [path]


def blocks(file: Path, shape: tuple[int | None, int | None]) -> Iterator[Block]:
    """Read a PNG or JPEG picture, an IDX file of images, plain or .gz, a .npy array, or a .csv with an image a row.

    Args:
        shape: height and width that an image in a .csv has if it has so many values; otherwise it is square.

    Raises:
        InputError: it cannot be read; the text begins with the file's name.
    """
    ending = file.suffix.lower()
    try:
        if ending in PICTURES:
            yield Block(file, 0, digitize.read(file, name=str(file))[None], is_picture=True)
        elif ending == ".npy":
            yield from _of_array(file)
        elif ending == ".csv":
            yield from _of_table(file, shape)
        else:
            yield from _of_idx(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}.") from error


def count(file: Path) -> int | None:
    """How many images a file has, where that can be told without reading it."""
    try:
        if file.suffix.lower() in PICTURES:
            return 1
        if file.suffix.lower() == ".npy":
            array = np.load(file, mmap_mode="r", allow_pickle=False)
            return len(array) if array.ndim == 3 else 1
        if file.suffix.lower() == ".csv":
            return None
        return idx.count_images(file)
    except (OSError, ValueError, EOFError, AttributeError, zlib.error):
        # Reading it will say what is wrong.
        return None


def _of_idx(file: Path) -> Iterator[Block]:
    try:
        known = idx.is_idx(file)
    except (EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read ({first_line(error)}); fetch it again.") from error
    if not known:
        raise InputError(f"{file} is no PNG, JPEG, .npy, .csv or IDX file.")
    first = 0
    for images in idx.read_blocks(file, block_size):
        yield Block(file, first, images)
        first += len(images)


def _of_array(file: Path) -> Iterator[Block]:
    try:
        # Mapped, not read; objects, which would have to be unpickled, are refused.
        array = np.load(file, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{file} is no .npy array of numbers.") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (2, 3) or not array.size:
        raise InputError(f"{file} is no .npy array of images (N, height, width).")
    array = array[None] if array.ndim == 2 else array
    block = block_size(*array.shape[1:])
    for first in range(0, len(array), block):
        yield Block(file, first, checked(np.array(array[first : first + block]), file))


def _of_table(file: Path, shape: tuple[int | None, int | None]) -> Iterator[Block]:
    # Excel begins a file with a mark of the encoding.
    with file.open(encoding="utf-8-sig", errors="replace") as opened:
        heading = not is_number(opened.readline().split(",")[0])
    try:
        first = 0
        options = {"header": 0 if heading else None, "index_col": False, "encoding": "utf-8-sig"}
        for table in pd.read_csv(file, chunksize=BLOCK, dtype=np.float64, **options):
            size = image_size(table.shape[1], shape)
            if size is None:
                raise InputError(
                    f"{file} has rows of {table.shape[1]} values: a square image, or a label and one, is due."
                )
            images = table.to_numpy()[:, -size[0] * size[1] :].reshape(-1, *size)
            yield Block(file, first, checked(images, file))
            first += len(images)
    except (ValueError, OverflowError, pd.errors.ParserError) as error:
        raise InputError(f"{file} is no table of whole numbers: {first_line(error)}.") from error


def is_number(text: str) -> bool:
    """Whether a field of a table is a number, quoted or not."""
    try:
        float(text.strip().strip('"'))
    except ValueError:
        return False
    return True


def block_size(height: int, width: int) -> int:
    """How many images of this size are read at once."""
    return max(1, min(BLOCK, BLOCK_BYTES // (height * width)))


def image_size(values: int, shape: tuple[int | None, int | None]) -> tuple[int, int] | None:
    """Height and width of the image in a row of so many values; in Kaggle's archive a label stands before it."""
    for pixels in (values, values - 1):
        if shape[0] and shape[1] and pixels == shape[0] * shape[1]:
            return shape[0], shape[1]
    for pixels in (values, values - 1):
        side = math.isqrt(max(0, pixels))
        if side > 1 and side**2 == pixels:
            return side, side
    return None


def checked(images: np.ndarray, file: Path) -> np.ndarray:
    """Whole numbers from 0 to 255 as uint8.

    Raises:
        InputError: other values.
    """
    if not (np.issubdtype(images.dtype, np.integer) or np.issubdtype(images.dtype, np.floating)):
        raise InputError(f"{file} holds {images.dtype}: pixels are whole, 0 to 255.")
    if images.min() < 0 or images.max() > 255 or not (images == np.rint(images)).all():
        found = f"values from {images.min():g} to {images.max():g}"
        hint = ": multiply them by 255 and round" if images.max() <= 1 else ""
        raise InputError(f"{file} holds {found}, but pixels are whole, 0 to 255{hint}.")
    return images.astype(np.uint8)
