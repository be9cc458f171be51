"""Digits that were answered wrong, with their right labels, added to the training file of a data set."""

import threading
from collections.abc import Callable
from pathlib import Path

import idx2numpy
import numpy as np
from filelock import FileLock

from pipeline import data
from pipeline.data import Dataset
from pipeline.errors import InputError
from pipeline.files import replacing

# Added since the playground was started.
MOST = 1_000
NAMES = {
    "train-images": "train-images-idx3-ubyte",
    "train-labels": "train-labels-idx1-ubyte",
    "test-images": "t10k-images-idx3-ubyte",
    "test-labels": "t10k-labels-idx1-ubyte",
}


class Corrections:
    """A folder of IDX files that begins as a copy of a data set and grows by one training image at a time.

    Its test file stays as it is, so that what is trained on the folder is tested on the same images.

    Args:
        folder: made with the first correction; one that exists is continued.
        base: gives the data set that it begins as.
    """

    def __init__(self, folder: Path, base: Callable[[], Dataset]) -> None:
        self.folder = folder
        self.base = base() if not folder.exists() else data.read_folder(self._mended(), name=folder.name)
        self.added = 0
        self.lock = threading.Lock()

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels there are."""
        return self.base.classes

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.base.train.images.shape[1:]

    def add(self, image: np.ndarray, label: str) -> int:
        """Append an image, uint8 of `shape`, with one of `classes`, and return how many training images there are.

        Raises:
            InputError: as many as are allowed were added.
        """
        if self.added >= MOST:
            raise InputError(f"{MOST:,} digits were added: start the playground again to add more.")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.lock, FileLock(self.folder.with_name(f".{self.folder.name}.lock")):
            if not self.folder.exists():
                self._begin()
            self._mended()
            found = data.find_idx(self.folder)
            images = data.read_idx(found["train-images"], 3)
            labels = data.read_idx(found["train-labels"], 1)
            images = np.concatenate([images, image[None]])
            labels = np.append(labels, np.uint8(self.classes.index(label)))
            self._write(images, labels)
            self.added += 1
            return len(labels)

    def _begin(self) -> None:
        # Whole or not at all: made beside, then renamed.
        beside = self.folder.with_name(f".{self.folder.name}.new")
        beside.mkdir(exist_ok=True)
        for part, images in (("train", self.base.train), ("test", self.base.test)):
            idx2numpy.convert_to_file(str(beside / NAMES[f"{part}-images"]), images.images)
            idx2numpy.convert_to_file(str(beside / NAMES[f"{part}-labels"]), images.targets.astype(np.uint8))
        beside.rename(self.folder)

    def _write(self, images: np.ndarray, labels: np.ndarray) -> None:
        with (
            replacing(self.folder / NAMES["train-images"]) as new_images,
            replacing(self.folder / NAMES["train-labels"]) as new_labels,
        ):
            idx2numpy.convert_to_file(str(new_images), images)
            idx2numpy.convert_to_file(str(new_labels), labels)

    def _mended(self) -> Path:
        """The folder, whose two training files are of one length: a process killed between them leaves them unequal."""
        files = data.find_idx(self.folder)
        images, labels = (data.read_idx(files[f"train-{kind}"], axes) for kind, axes in (("images", 3), ("labels", 1)))
        if len(images) != len(labels):
            count = min(len(images), len(labels))
            self._write(images[:count], labels[:count])
        return self.folder
