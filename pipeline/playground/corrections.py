"""Digits that were answered wrong, with their right labels, added to a copy of a data set."""

import json
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
from filelock import FileLock

from pipeline.data import additions, idx
from pipeline.data.images import Dataset
from pipeline.errors import InputError
from pipeline.files import atomic_write

# Added since the playground was started.
MOST = 1_000
# Tells a folder that was begun here, and keeps the names of the classes.
MARK = "corrections.json"


class Corrections:
    """A folder of IDX files that begins as a copy of a data set, to which training images are added one at a time.

    Its files stay as they are, so that what is trained on the folder is tested on the same images. At every instant it
    is whole: for `read_folder` with the images added so far, for other programs as the data set it began as.

    Args:
        folder: made with the first correction; one that was begun before is continued.
        base: gives the data set that it begins as.

    Raises:
        InputError: the folder holds something else.
    """

    def __init__(self, folder: Path, base: Callable[[], Dataset]) -> None:
        self.folder = folder
        self.added = 0
        self.between_threads = threading.Lock()
        self.between_processes = FileLock(folder.with_name(f".{folder.name}.lock"))
        if (folder / MARK).is_file():
            self.base: Dataset | None = None
            mark = json.loads((folder / MARK).read_text())
            self.classes, self.shape = tuple(mark["classes"]), tuple(mark["shape"])
        elif folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"'{folder}' is no folder that the playground began: name another one for corrections.")
        else:
            self.base = base()
            self.classes, self.shape = self.base.classes, self.base.train.images.shape[1:]

    def add(self, image: np.ndarray, label: str) -> int:
        """Add an image, uint8 of `shape`, with one of `classes`, and return how many training images there are.

        Raises:
            InputError: as many as are allowed were added.
        """
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with self.between_threads, self.between_processes:
            if self.added >= MOST:
                raise InputError(f"{MOST:,} digits were added: start the playground again to add more.")
            if not (self.folder / MARK).is_file():
                self._begin()
            count = self._mend()
            added = additions.add(self.folder, image, self.classes.index(label))
            self.added += 1
            return count + added

    def _begin(self) -> None:
        assert self.base is not None, "a folder that was begun before has its mark"
        # Made beside it and renamed: the folder is there whole or not at all, whenever the process is killed.
        beside = self.folder.with_name(f".{self.folder.name}.new")
        beside.mkdir(exist_ok=True)
        for part, images in (("train", self.base.train), ("t10k", self.base.test)):
            idx.write(self._path(part, "images", beside), images.images)
            idx.write(self._path(part, "labels", beside), images.targets.astype(np.uint8))
        mark = {"begun_as": self.base.name, "classes": self.classes, "shape": self.shape}
        (beside / MARK).write_text(json.dumps(mark))
        beside.rename(self.folder)

    def _mend(self) -> int:
        """How many training images the folder began with, as many labels being there afterwards.

        Corrections were once written into both files, the labels first: killed in between, it has one too many.
        """
        path = self._path("train", "labels")
        images, labels = (idx.count_images(file) for file in (self._path("train", "images"), path))
        if labels > images:
            with atomic_write(path) as mended:
                idx.write(mended, idx.read(path, 1)[:images])
        return images

    def _path(self, part: str, kind: str, folder: Path | None = None) -> Path:
        return (folder or self.folder) / f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte"
