"""Training images added to a folder of IDX files: `added/000001-7.png` is the first one, with the label 7.

A file holds one image and in its name the label, so that it is there with both or not at all, whenever the process that
adds it is killed; the IDX files, which take far longer to write, stay as they are.
"""

import re
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.pictures import png
from pipeline.errors import InputError, first_line
from pipeline.files import atomic_write

ADDED = "added"
NAME = re.compile(r"(\d+)-(\d+)\.png")


def add(folder: Path, image: np.ndarray, label: int) -> int:
    """Add a training image, uint8 (H, W), and return how many are added; one caller at a time."""
    before = _find(folder)
    number = before[-1][0] + 1 if before else 1
    with atomic_write(folder / ADDED / f"{number:06d}-{label}.png") as new:
        new.write_bytes(png(image))
    return len(before) + 1


def read(folder: Path, size: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The added images, uint8 (N, H, W), and their labels, uint8 (N,), in the order in which they were added.

    Args:
        size: height and width that they must have.

    Raises:
        InputError: a file is not what it should be; the text names it.
    """
    found = _find(folder)
    images = np.empty((len(found), *size), np.uint8)
    for position, (_, _, path) in enumerate(found):
        images[position] = _read(path, size)
    return images, np.array([label for _, label, _ in found], np.uint8)


def _find(folder: Path) -> list[tuple[int, int, Path]]:
    """Number, label and path of every added image, by number."""
    found = []
    for path in (folder / ADDED).glob("*.png"):
        match = NAME.fullmatch(path.name)
        if not match or (label := int(match[2])) > 255:
            raise InputError(f"{path} is no added image: rename it NUMBER-LABEL.png, as 000001-7.png, or remove it.")
        found.append((int(match[1]), label, path))
    return sorted(found)


def _read(path: Path, size: tuple[int, ...]) -> np.ndarray:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            if picture.mode != "L" or picture.size != size[::-1]:
                raise InputError(f"{path} is no grey image of {' x '.join(map(str, size))} px: remove it.")
            return np.asarray(picture)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read ({first_line(error)}): remove it.") from error
