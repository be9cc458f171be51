"""The IDX format, as MNIST's page describes it.

Two zero bytes, a type byte (8: unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit integer,
then the values.
"""

import gzip
import math
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from pipeline.data.pixels import MAX_SIDE, as_images, check_room
from pipeline.errors import InputError, first_line

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
CHUNK = 1 << 20
# Deflate cannot shrink data further than this, so a header that promises more is a lie.
GZIP_LARGEST_RATIO = 1032
GZIP = b"\x1f\x8b"
# What a file that was to be data begins with, and what it is then.
SVG = "is a drawing in SVG: save it as PNG"
MISTAKEN = {
    b"<svg": SVG,
    b"<?xml": SVG,
    b"<": "is a web page, not data: the download went wrong; fetch it again",
    b"version https://git-lfs": "is a Git LFS pointer, not the data it stands for: run `git lfs pull`",
    GZIP: "is compressed twice: unpack it once, as with gunzip",
    b"PK\x03\x04": "is an archive, as .zip, .npz and workbooks are: unpack it, save an array as .npy or a sheet as CSV",
    b"\xd0\xcf\x11\xe0": "is a workbook: save the sheet as CSV",
    b"%PDF": "is a PDF document: save its pages as pictures",
    b"GIF8": "is a GIF: save it as PNG",
    b"\xff\xfe": "is text in UTF-16: save it as UTF-8",
    b"\xfe\xff": "is text in UTF-16: save it as UTF-8",
}


def read(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of images or labels, plain or gzip-compressed.

    Takes no more memory than the values do: the header is checked against the content before anything is built.

    Args:
        path: the file; gzip is recognised by its content.
        dimensions: 3 for images, which may have a last axis of 1 besides; 1 for labels, which may have more columns of
            which they are the first, as QMNIST's.

    Returns:
        images as uint8 (N, H, W), labels as they are.

    Raises:
        InputError: the file cannot be read or is no such IDX file; the text names the file.
    """
    try:
        compressed = is_compressed(path)
        size = path.stat().st_size
        limit = size * GZIP_LARGEST_RATIO if compressed else size
        with opened(path) as file:
            kind, shape = read_header(file, dimensions, path)
            length = math.prod(shape) * kind.itemsize
            expected = 4 + 4 * len(shape) + length
            if expected > limit:
                raise InputError(
                    f"{path} is truncated: its header promises {expected:,} bytes, the file has {size:,}"
                    f"{' compressed' if compressed else ''}; fetch it again."
                )
            if dimensions == 3:
                check_room(shape[0], shape[1], math.prod(shape[2:]), str(path))
            # Grown in pieces, so that memory follows what is there and not what the header promises.
            content = bytearray()
            while piece := file.read(min(CHUNK, length + 1 - len(content))):
                content += piece
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); check the file or fetch it again.") from error
    if len(content) != length:
        state = "truncated" if len(content) < length else "longer than its header says"
        raise InputError(f"{path} is {state}: its header promises {expected:,} bytes; fetch it again.")
    # Shares the memory of what was read, and is writable as that is: torch wants no other arrays.
    array = np.frombuffer(content, kind).reshape(shape)
    if dimensions == 3:
        return as_images(array, str(path))
    return array if array.ndim == 1 else array[:, 0].copy()


def write(path: Path, array: np.ndarray) -> None:
    """Write an array as an IDX file of bytes, or of int32 where bytes do not hold it.

    idx2numpy would take a second for ten thousand images.
    """
    kind = 0x08 if array.dtype == np.uint8 or array.max(initial=0) < 256 else 0x0C
    header = bytes([0, 0, kind, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    with path.open("wb") as file:
        file.write(header)
        file.write(np.ascontiguousarray(array, TYPES[kind]).data)


def read_header(file: BinaryIO | gzip.GzipFile, dimensions: int, path: Path) -> tuple[np.dtype, tuple[int, ...]]:
    """The type and the sizes that an IDX file's header promises.

    Raises:
        InputError: it is no header of an IDX file of images or labels, or an absurd one.
    """
    magic = file.read(4)
    if mistaken := mistaken_for((magic + file.read(60)) if magic[:2] != b"\0\0" else magic):
        raise InputError(f"{path} {mistaken}.")
    known = len(magic) == 4 and magic[:2] == b"\0\0" and magic[2] in TYPES
    if known and magic[3] == (1 if dimensions == 3 else 3):
        what, wanted = ("labels", "images") if dimensions == 3 else ("images", "labels")
        raise InputError(f"{path} holds {what}, no {wanted}: name the file of the {wanted}.")
    # More axes than these are either of size one or not needed.
    if not known or magic[3] - dimensions not in (0, 1):
        raise InputError(
            f"{path} is no IDX file of {'images' if dimensions == 3 else 'labels'}: "
            f"it starts with 0x{magic.hex()} where 0x000008{dimensions:02x} is expected."
        )
    kind = np.dtype(TYPES[magic[2]])
    if dimensions == 1 and kind.kind == "f":
        raise InputError(f"{path} is no IDX file of labels: it holds fractions.")
    sizes = file.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise InputError(f"{path} is truncated within its header; fetch it again.")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    if 0 in shape or any(side > MAX_SIDE for side in shape[1:]):
        raise InputError(f"{path} has an absurd header: a shape of {shape}; fetch it again.")
    return kind, shape


def mistaken_for(beginning: bytes) -> str | None:
    """What a file is that was to be data, by how it begins."""
    if not beginning:
        return "is empty; fetch it again"
    beginning = beginning.lstrip(b"\xef\xbb\xbf \t\r\n")
    return next((what for mark, what in MISTAKEN.items() if beginning.startswith(mark)), None)


def is_compressed(path: Path) -> bool:
    """Whether a file is gzip's, by its content."""
    with path.open("rb") as file:
        return file.read(2) == GZIP


def opened(path: Path) -> BinaryIO | gzip.GzipFile:
    """A file for reading, unpacked on the way where it is gzip's."""
    return gzip.open(path, "rb") if is_compressed(path) else path.open("rb")


def count_images(path: Path) -> int:
    """How many images an IDX file's header promises, unchecked.

    Raises:
        OSError, EOFError, zlib.error: it cannot be read.
    """
    with opened(path) as file:
        return int.from_bytes(file.read(8)[4:], "big")


def read_blocks(path: Path, at_once: Callable[[int, int], int]) -> Iterator[np.ndarray]:
    """Read the images of an IDX file, plain or gzip-compressed, a few at a time.

    Args:
        at_once: how many images of a height and width are read together.

    Yields:
        uint8 (n, H, W), with memory of its own.

    Raises:
        InputError: it is no IDX file of images, or not as long as its header says; the text names the file.
    """
    try:
        with opened(path) as file:
            kind, (total, *axes) = read_header(file, 3, path)
            length = math.prod(axes) * kind.itemsize
            for first in range(0, total, block := at_once(axes[0], math.prod(axes[1:]))):
                wanted = min(block, total - first)
                content = file.read(wanted * length)
                if len(content) < wanted * length:
                    raise InputError(f"{path} is truncated: its header promises {total:,} images; fetch it again.")
                # Copied, as torch shares memory with arrays, and only with writable ones.
                yield as_images(np.frombuffer(content, kind).reshape(wanted, *axes), str(path)).copy()
            if file.read(1):
                raise InputError(f"{path} is longer than its header says: {total:,} images; fetch it again.")
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}); fetch it again.") from error
