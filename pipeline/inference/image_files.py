"""Images from files of several kinds, a block at a time: a million need no more memory than a thousand."""

import math
import os
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data import grey, idx, pixels
from pipeline.data.forms import arrays
from pipeline.data.forms.parts import some
from pipeline.errors import InputError, first_line
from pipeline.inference import pixel_tables

PICTURES = grey.ENDINGS
SYSTEM_FOLDERS = ("__MACOSX",)
SYSTEM_FILES = ("Thumbs.db", "desktop.ini")
# Rows of pixels are images of this side where the model takes any.
FLAT_SIDE = 28
COLOURS = 3
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


@dataclass(frozen=True)
class Found:
    """The files that an input stands for.

    Attributes:
        files: those that are read, by name.
        others: files of other kinds beside them.
        in_folder: whether the input is a folder, and the files are all pictures.
    """

    files: list[Path]
    others: list[Path]
    in_folder: bool

    def others_in_words(self) -> str:
        """How many files of which kinds are passed over."""
        kinds = Counter(file.suffix.lower() or "no ending" for file in self.others)
        count = ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())
        return f"{len(self.others)} files of other kinds ({count}), such as {self.others[0]}"


def find(path: Path) -> Found:
    """The file itself, or the pictures in a folder and in those within it, by name; hidden ones are none.

    Raises:
        InputError: there is no such file, or no picture in the folder.
    """
    if path.is_dir():
        inside = sorted(file for file in files_below(path) if not is_hidden(file.relative_to(path)) and file.is_file())
        found = Found(
            files=[file for file in inside if file.suffix.lower() in PICTURES],
            others=[file for file in inside if file.suffix.lower() not in PICTURES],
            in_folder=True,
        )
        if not found.files:
            beside = f" It has {found.others_in_words()}." if found.others else ""
            raise InputError(
                f"There is no picture in {path}: files ending in {', '.join(PICTURES)} are looked for.{beside}"
            )
        return found
    if not path.is_file():
        raise InputError(f"There is no file or folder '{path}'.")
    return Found([path], [], in_folder=False)


def files_below(folder: Path) -> Iterator[Path]:
    """What lies in a folder, in those within it and in those that links lead to; in each of them once."""
    seen: set[str] = set()
    for place, within, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            within.clear()
            continue
        seen.add(real)
        yield from (Path(place, name) for name in names)


def is_hidden(path: Path) -> bool:
    """Whether a file is a system's own: hidden, within a hidden folder, a preview or the double that macOS packs."""
    return path.name in SYSTEM_FILES or any(part.startswith(".") or part in SYSTEM_FOLDERS for part in path.parts)


def blocks(file: Path, shape: tuple[int | None, int | None]) -> Iterator[Block]:
    """Read a picture, an IDX file of images, plain or .gz, a .npy or .npz array, or a .csv or .tsv with an image a row.

    Args:
        shape: height and width that an image of so many pixels in a row has; otherwise it is square.

    Raises:
        InputError: it cannot be read; the text begins with the file's name.
    """
    ending = file.suffix.lower()
    try:
        if ending in PICTURES or (ending in grey.HEIF_ENDINGS):
            yield Block(file, 0, grey.read(file, name=str(file))[None], is_picture=True)
        elif ending == ".npy":
            yield from _of_array(file, shape)
        elif ending == ".npz":
            yield from _of_archive(file, shape)
        elif file.name.lower().endswith(pixel_tables.ENDINGS):
            yield from _of_table(file, shape)
        else:
            yield from _of_idx(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {first_line(error)}.") from error


def count(file: Path, shape: tuple[int | None, int | None]) -> int | None:
    """How many images a file has, where that can be told without reading it."""
    ending = file.suffix.lower()
    try:
        if ending in PICTURES:
            return 1
        if ending == ".npy":
            return len(as_images(np.lib.format.open_memmap(file, mode="r"), shape, file))
        return None if file.name.lower().endswith(pixel_tables.ENDINGS) else idx.count_images(file)
    except (OSError, ValueError, EOFError, AttributeError, OverflowError, zlib.error, InputError):
        # Reading it will say what is wrong.
        return None


def _of_idx(file: Path) -> Iterator[Block]:
    try:
        with idx.opened(file) as opened:
            beginning = opened.read(64)
    except (EOFError, zlib.error) as error:
        raise InputError(f"{file} cannot be read ({first_line(error)}); fetch it again.") from error
    if mistaken := idx.mistaken_for(beginning):
        raise InputError(f"{file} {mistaken}.")
    if not beginning.startswith(b"\0\0"):
        raise InputError(f"{file} is no picture ({', '.join(PICTURES)}), .npy, .npz, .csv, .tsv or IDX file.")
    first = 0
    for images in idx.read_blocks(file, block_size):
        yield Block(file, first, images)
        first += len(images)


def _of_array(file: Path, shape: tuple[int | None, int | None]) -> Iterator[Block]:
    try:
        # Mapped, not read; objects, which would have to be unpickled, are refused, and so are archives.
        found = np.lib.format.open_memmap(file, mode="r")
    except (ValueError, EOFError, OverflowError) as error:
        with file.open("rb") as opened:
            mistaken = idx.mistaken_for(opened.read(64))
        raise InputError(f"{file} {mistaken or 'is no .npy array of numbers'}.") from error
    array = as_images(found, shape, file)
    block = block_size(*array.shape[1:3])
    for first in range(0, len(array), block):
        yield Block(file, first, pixels.as_images(np.array(array[first : first + block]), str(file)))


def _of_archive(file: Path, shape: tuple[int | None, int | None]) -> Iterator[Block]:
    entries = list(arrays.entries_of(file))
    named = [entry for entry in entries if len(entries) == 1 or arrays.kind_of(entry[0]) == "images"]
    if len(named) != 1:
        names = some(Path(name).name for name, _ in entries)
        raise InputError(f"{file} has the arrays {names}: leave the one of the images, or save it as .npy.")
    ((_, opened),) = named
    first = 0
    with arrays.reading(str(file)), opened() as content:
        for part in arrays.blocks(content, str(file)):
            images = pixels.as_images(as_images(part, shape, file), str(file))
            yield Block(file, first, images)
            first += len(images)


def as_images(array: np.ndarray, shape: tuple[int | None, int | None], file: Path) -> np.ndarray:
    """An array of one or more images, flat or not, with an axis of 1 or without, as (N, H, W), of colour (N, H, W, 3).

    Raises:
        InputError: it is none.
    """
    if isinstance(array, np.ndarray) and array.size:
        height, width = (shape[0] or FLAT_SIDE), (shape[1] or FLAT_SIDE)
        if array.ndim in (1, 2) and array.shape[-1] == height * width:
            return array.reshape(-1, height, width)
        if (
            array.ndim == 2
            and array.shape[0] != array.shape[1]
            and (side := math.isqrt(array.shape[1])) ** 2 == array.shape[1]
        ):
            raise InputError(
                f"{file} has the shape {array.shape}: {array.shape[0]} images of {side} x {side} px or one picture? "
                "Give it as (N, height, width)."
            )
        if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == COLOURS):
            return array[None]
        if array.ndim == 4 and array.shape[3] == COLOURS:
            return array
        if array.ndim == 4 and 1 in (array.shape[1], array.shape[3]):
            return array[:, 0] if array.shape[1] == 1 else array[..., 0]
        if array.ndim == 3:
            return array
    found = f", but has the shape {array.shape}" if isinstance(array, np.ndarray) else ""
    raise InputError(f"{file} is no .npy array of images (N, height, width) or (N, height * width){found}.")


def _of_table(file: Path, shape: tuple[int | None, int | None]) -> Iterator[Block]:
    first = 0
    for values, size in pixel_tables.read_rows(file, shape, rows=BLOCK):
        yield Block(file, first, pixels.as_pixels(values.reshape(-1, *size), str(file)))
        first += len(values)
    if not first:
        raise InputError(f"{file} has no images.")


def block_size(height: int, width: int) -> int:
    """How many images of this size are read at once."""
    return max(1, min(BLOCK, BLOCK_BYTES // (height * width)))
