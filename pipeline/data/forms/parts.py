"""What every form is read to: images and labels of a training file and, where there is one, of a test file."""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.data.pixels import check_room
from pipeline.errors import InputError
from pipeline.names import natural

Split = Literal["train", "test"]

# Validation images are held out of the training file, the same for every architecture: what comes as such is training.
SPLITS: dict[str, Split] = {
    **dict.fromkeys(["train", "training", "trainset", "trainingset", "trn"], "train"),
    **dict.fromkeys(["val", "valid", "validation", "dev"], "train"),
    **dict.fromkeys(["test", "testing", "testset", "testingset", "tst", "t10k"], "test"),
    **dict.fromkeys(["eval", "evaluation", "holdout"], "test"),
}
# Files lie so deep below the folder that is named, as `train-images-idx3-ubyte` below the one above `MNIST/raw`.
DEPTH = 3
CHECKED_BYTES = 16_000_000
# What systems and tools leave in folders.
LEFTOVERS = ("__macosx", "@eadir", "thumbs.db", "desktop.ini", "thumbnails", "thumbs")


@dataclass(frozen=True)
class Part:
    """A training or a test file.

    Attributes:
        images: uint8 (N, H, W).
        labels: (N,), whole numbers or names.
        source: what messages call it.
    """

    images: np.ndarray
    labels: np.ndarray
    source: str

    def __post_init__(self) -> None:
        if len(self.images) != len(self.labels):
            raise InputError(f"{self.source} has {len(self.images):,} images, but {len(self.labels):,} labels.")


@dataclass(frozen=True)
class Parts:
    """What was read.

    Attributes:
        test: None where the images come without a test file.
        names: what labels that are numbers stand for, where that is known.
        notes: what whoever uses it must know, in sentences.
    """

    train: Part
    test: Part | None
    names: Mapping[int, str] | None = None
    notes: tuple[str, ...] = ()


class Gathered:
    """Images that come a block at a time, in memory that grows with what is there and not with what is promised."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.size: tuple[int, int] | None = None
        self.content = bytearray()
        self.checked = 0

    def add(self, images: np.ndarray) -> None:
        """Add images, uint8 (N, H, W), all of the size of the first.

        Raises:
            InputError: another size, or this machine has no room for them.
        """
        self.size = self.size or (images.shape[1], images.shape[2])
        if images.shape[1:] != self.size:
            first, other = (" x ".join(map(str, size)) for size in (self.size, images.shape[1:]))
            raise InputError(f"{self.source} has images of {first} px and of {other} px: all must be of one size.")
        # Asking the system of every picture would take as long as reading it.
        if len(self.content) >= self.checked:
            check_room(max(len(images), CHECKED_BYTES // math.prod(self.size)), *self.size, self.source)
            self.checked = len(self.content) + CHECKED_BYTES
        self.content += np.ascontiguousarray(images).data

    def images(self) -> np.ndarray:
        """All of them, uint8 (N, H, W)."""
        return np.frombuffer(self.content, np.uint8).reshape(-1, *(self.size or (1, 1)))


def split_of(name: str) -> Split | None:
    """The part that a file's or folder's name tells: train for `mnist_train.csv`, `X_val` or `trainingSet`."""
    return next((SPLITS[word] for word in words(name) if word in SPLITS), None)


def split_told(below: Path, top: Path) -> Split | None:
    """The part that a file's name tells, or else a folder's between it and the one that is named."""
    return next(filter(None, map(split_of, reversed(below.relative_to(top).parts))), None)


def words(name: str) -> list[str]:
    """What a name is made of, in small letters, without numbers at the end of a word, as of `train2`."""
    parts = re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower())
    return [part if part in SPLITS else part.rstrip("0123456789") for part in parts]


def set_told(below: Path, top: Path, *, but: Collection[str] = ()) -> tuple[str, ...]:
    """What the names of a file and the folders it lies in tell of a data set, when parts and numbers are taken off."""
    told = [word for part in below.relative_to(top).parts for word in words(part) if word not in SPLITS]
    letters = [re.sub(r"\d", "", word) for word in told]
    return tuple(word for word in letters if word and word not in but)


def check_one_set(path: Path, sets: Mapping[tuple[str, ...], object]) -> None:
    """Refuse what belongs to several data sets.

    Args:
        sets: one of each, by what `set_told` says.

    Raises:
        InputError: which there are.
    """
    if len(sets) > 1:
        raise InputError(f"{path} holds several data sets, as {some(map(str, sets.values()))}: name a file or folder.")


def is_leftover(path: Path) -> bool:
    """Whether it is hidden, or what a system or a tool leaves in folders."""
    return path.name.startswith(".") or path.name.lower() in LEFTOVERS


def is_loop(path: Path) -> bool:
    """Whether it is a link to a folder that it lies in: what is below would come a second time."""
    return path.is_symlink() and path.resolve() in (path.parent.resolve() / path.name).parents


def is_astray(path: Path) -> bool:
    """Whether it is a link to what is not there, which is said when it is read."""
    return path.is_symlink() and not path.exists()


def entries(folder: Path) -> list[Path]:
    """What lies in a folder, in natural order, without leftovers.

    Raises:
        InputError: the folder may not be read.
    """
    try:
        # Whether something is there is silently nothing where it may not be known.
        found = [
            path
            for path in folder.iterdir()
            if (path.exists() or is_astray(path)) and not is_leftover(path) and not is_loop(path)
        ]
    except PermissionError as error:
        raise InputError(f"{folder} may not be read by this user: change its permissions.") from error
    return sorted(found, key=lambda path: (natural(path.name), path.name))


def files_below(path: Path, depth: int = DEPTH, *, but: Collection[Path] = ()) -> Iterator[Path]:
    """The file itself, or the files in a folder and in those within it, but not in some of them."""
    if path.is_file() or is_astray(path):
        yield path
    elif depth and path.is_dir():
        for entry in entries(path):
            if entry not in but:
                yield from files_below(entry, depth - 1, but=but)


def counted(kind: str, of: Collection[object]) -> str:
    """How many there are of a kind of thing, in words."""
    return f"{len(of):,} {kind}{'s' * (len(of) != 1)}"


def some(names: Iterable[str], most: int = 3) -> str:
    """The first few of several names."""
    listed = list(names)
    return ", ".join(listed[:most]) + (f" and {len(listed) - most:,} more" if len(listed) > most else "")
