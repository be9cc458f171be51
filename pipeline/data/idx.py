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

from pipeline.errors import InputError, first_line

MAX_SIDE = 4096
CHUNK = 1 << 20
# Deflate cannot shrink data further than this, so a header that promises more is a lie.
GZIP_LARGEST_RATIO = 1032


def read(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or gzip-compressed.

    Takes no more memory than the values do: the header is checked against the content before anything is built.

    Args:
        path: the file; gzip is recognised by its content.
        dimensions: 3 for images, 1 for labels.

    Returns:
        uint8 array with `dimensions` axes.

    Raises:
        InputError: the file cannot be read or is no such IDX file; the text names the file.
    """
    try:
        compressed = is_compressed(path)
        size = path.stat().st_size
        limit = size * GZIP_LARGEST_RATIO if compressed else size
        with opened(path) as file:
            header = file.read(4 + 4 * dimensions)
            shape = parse_shape(header, dimensions, path)
            values = math.prod(shape)
            expected = len(header) + values
            if expected > limit:
                raise InputError(
                    f"{path} is truncated: its header promises {expected:,} bytes, the file has {size:,}"
                    f"{' compressed' if compressed else ''}; fetch it again."
                )
            # Grown in pieces, so that memory follows what is there and not what the header promises.
            content = bytearray()
            while piece := file.read(min(CHUNK, values + 1 - len(content))):
                content += piece
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); check the file or fetch it again.") from error
    if len(content) != values:
        state = "truncated" if len(content) < values else "longer than its header says"
        raise InputError(f"{path} is {state}: its header promises {expected:,} bytes; fetch it again.")
    # Shares the memory of what was read, and is writable as that is: torch wants no other arrays.
    return np.frombuffer(content, np.uint8).reshape(shape)


def write(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file; idx2numpy would take a second for ten thousand images."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    with path.open("wb") as file:
        file.write(header)
        file.write(np.ascontiguousarray(array, np.uint8).data)


def parse_shape(header: bytes, dimensions: int, path: Path) -> tuple[int, ...]:
    """The sizes that an IDX file's header promises.

    Raises:
        InputError: it is no header of an IDX file with so many dimensions, or an absurd one.
    """
    if not header:
        raise InputError(f"{path} is empty; fetch it again.")
    if header.lstrip()[:1] == b"<":
        raise InputError(f"{path} is a web page, not IDX data: the download went wrong; fetch it again.")
    if header[:2] != b"\0\0" or header[2:4] != bytes([8, dimensions]):
        raise InputError(
            f"{path} is no IDX file of {'images' if dimensions == 3 else 'labels'}: "
            f"it starts with 0x{header[:4].hex()} where 0x000008{dimensions:02x} is expected."
        )
    if len(header) < 4 + 4 * dimensions:
        raise InputError(f"{path} is truncated within its header; fetch it again.")
    shape = tuple(int.from_bytes(header[i : i + 4], "big") for i in range(4, 4 + 4 * dimensions, 4))
    if 0 in shape or any(side > MAX_SIDE for side in shape[1:]):
        raise InputError(f"{path} has an absurd header: a shape of {shape}; fetch it again.")
    return shape


def is_compressed(path: Path) -> bool:
    """Whether a file is gzip's, by its content."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def opened(path: Path) -> BinaryIO | gzip.GzipFile:
    """A file for reading, unpacked on the way where it is gzip's."""
    return gzip.open(path, "rb") if is_compressed(path) else path.open("rb")


def is_idx(path: Path) -> bool:
    """Whether a file begins as all IDX files do."""
    with opened(path) as file:
        return file.read(2) == b"\0\0"


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
            total, height, width = parse_shape(file.read(16), 3, path)
            for first in range(0, total, block := at_once(height, width)):
                wanted = min(block, total - first)
                content = file.read(wanted * height * width)
                if len(content) < wanted * height * width:
                    raise InputError(f"{path} is truncated: its header promises {total:,} images; fetch it again.")
                # Copied, as torch shares memory with arrays, and only with writable ones.
                yield np.frombuffer(content, np.uint8).reshape(wanted, height, width).copy()
            if file.read(1):
                raise InputError(f"{path} is longer than its header says: {total:,} images; fetch it again.")
    except (EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}); fetch it again.") from error
