"""Pictures of any kind and size as grey images of one size."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from tqdm import tqdm

from pipeline.data import grey
from pipeline.data.forms.parts import Gathered, some
from pipeline.errors import InputError

# The side that pictures are fitted to where none is asked for, and up to which those of one size are taken as they are.
SIDE = 28
MAX_KEPT = 128
# More unreadable pictures than this share are no accident.
MAX_UNREADABLE = 0.01
# So many are looked at to see whether they are dark on light.
EXAMINED = 1_000

# A picture's name, and its file or content.
Picture = tuple[str, Path | bytes]


@dataclass(frozen=True)
class Fitting:
    """What becomes of images.

    Attributes:
        side: of the square that they are fitted to; None: pictures of one size are taken as they are.
        frame: sets the ink of a grey image, uint8 (H, W), into a square of a side, as `predict` does; its third
            argument is the image's name. It raises InputError where it finds no ink. None: nothing is set.
    """

    side: int | None = None
    frame: Callable[[np.ndarray, int, str], np.ndarray] | None = None

    def arrays(self, images: np.ndarray, source: str) -> np.ndarray:
        """Images that are of one size, uint8 (N, H, W), fitted as is asked."""
        if not self.frame and self.side in (None, *({images.shape[1]} & {images.shape[2]})):
            return images
        gathered = Gathered(source)
        for position, image in enumerate(images):
            gathered.add(self.fit(image, self.side or SIDE, f"{source}, image {position},")[None])
        return gathered.images()

    def fit(self, image: np.ndarray, side: int, name: str) -> np.ndarray:
        """One image, uint8 (H, W), in a square."""
        if self.frame:
            return self.frame(image, side, name)
        border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        ground = int(np.median(border))
        return np.asarray(ImageOps.pad(Image.fromarray(image), (side, side), Image.Resampling.BICUBIC, color=ground))


AS_THEY_ARE = Fitting()


class UnequalSizes(Exception):
    """Pictures cannot be taken as they are."""


def gather(
    pictures: Callable[[], Iterator[Picture]], fitting: Fitting, source: str, total: int
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Read pictures, a few unreadable ones among them.

    Args:
        pictures: gives them, from the first on each time.
        total: how many there are.

    Returns:
        uint8 (N, H, W), the positions (N,) of those that were read, and what a reader must know, in sentences.

    Raises:
        InputError: too many cannot be read, or they need more memory than there is.
    """
    side = fitting.side or (SIDE if fitting.frame else None)
    try:
        images, read, failures = _gather(pictures(), fitting, side, source, total)
    except UnequalSizes:
        images, read, failures = _gather(pictures(), fitting, SIDE, source, total)
    notes = []
    if failures:
        text = f"{len(failures):,} of {total:,} pictures of {source} cannot be read: {some(failures)}."
        if len(failures) > MAX_UNREADABLE * total:
            raise InputError(f"{text} Mend or remove them.")
        notes.append(text)
    if not fitting.frame and are_light(images[:: max(1, len(images) // EXAMINED)]):
        notes.append(
            f"The pictures of {source} are dark on light, which predict turns around before a model sees them: with "
            "frame=true training sees them so, too."
        )
    return images, read, tuple(notes)


def _gather(
    pictures: Iterator[Picture], fitting: Fitting, side: int | None, source: str, total: int
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    gathered, read, failures = Gathered(source), [], []
    bar = tqdm(pictures, total=total, desc=source, unit="picture", leave=False, disable=not sys.stderr.isatty())
    for position, (name, content) in enumerate(bar):
        try:
            image = grey.read(content, name=name)
            if side:
                image = fitting.fit(image, side, name)
        except InputError as error:
            failures.append(str(error).rstrip("."))
            continue
        if not side and (max(image.shape) > MAX_KEPT or image.shape != (gathered.size or image.shape)):
            raise UnequalSizes
        gathered.add(image[None])
        read.append(position)
    return gathered.images(), np.array(read, int), failures


def are_light(images: np.ndarray) -> bool:
    """Whether most images, uint8 (N, H, W), are dark on light: most of one is nearer to its brightest than darkest."""
    if not images.size:
        return False
    darkest, median, brightest = np.percentile(images, [2, 50, 98], axis=(1, 2))
    return bool(np.mean((median > (darkest + brightest) / 2) & (brightest > darkest)) > 0.5)
