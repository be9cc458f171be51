"""Pictures in folders that are named as their classes: `train/7/1.png` and `test/7/1.png`, or `7/1.png` alone."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipeline.data import grey
from pipeline.data.forms.fitting import Fitting, Picture, gather
from pipeline.data.forms.parts import SPLITS, Part, Parts, Split, entries, files_below, some
from pipeline.errors import InputError
from pipeline.names import natural

# Folders of a class may have folders, as of writers, within them.
DEPTH = 4

# By class, its files with their paths within the class.
Classes = dict[str, list[tuple[str, Path]]]


def find(path: Path) -> dict[Split, Classes]:
    """The files of every class in the training and the test folder; none where there are no pictures.

    Raises:
        InputError: a folder may not be read.
    """
    if not path.is_dir():
        return {}
    top = innermost(path)
    roots: dict[Split, list[Path]] = {"train": [], "test": []}
    for folder in folders_in(top):
        if split := SPLITS.get(re.sub(r"[^a-z0-9]", "", folder.name.lower())):
            roots[split].append(innermost(folder))
    if not any(roots.values()):
        roots["train"] = [top]
    found: dict[Split, Classes] = {}
    for split, folders in roots.items():
        classes: Classes = {}
        for folder in (inner for outer in folders for inner in folders_in(outer)):
            files = [(str(file.relative_to(folder)), file) for file in files_below(folder, DEPTH)]
            if any(is_picture(file) for _, file in files):
                classes.setdefault(folder.name, []).extend(files)
        if classes:
            found[split] = classes
    return found


def read(path: Path, found: dict[Split, Classes], fitting: Fitting) -> Parts:
    """Read the pictures that `find` found.

    They are in the order of their names, whatever their class: pictures that are numbered through come in the order
    of the data set they were taken from.

    Raises:
        InputError: there is no training folder, the test has a class that training lacks, or too many cannot be read.
    """
    if "train" not in found:
        raise InputError(f"{path} has a test folder with pictures, but no training folder: name it train.")
    classes = sorted(found["train"], key=lambda name: (natural(name), name))
    if unknown := [name for name in found.get("test", {}) if name not in classes]:
        raise InputError(f"{path} has test pictures of {some(unknown)}, a class without training pictures.")
    notes: tuple[str, ...] = ()
    parts: dict[Split, Part] = {}
    for split, files in found.items():
        source = f"{path} ({split})" if len(found) > 1 else str(path)
        number = {name: label for label, name in enumerate(classes)}
        pictures = sorted(
            (
                (number[name], within, file)
                for name, of_class in files.items()
                for within, file in of_class
                if is_picture(file)
            ),
            key=lambda picture: (natural(picture[1]), picture[0], picture[2]),
        )
        others = [str(file) for of_class in files.values() for _, file in of_class if not is_picture(file)]
        if others:
            notes += (f"{len(others):,} files among the pictures are of no known kind and left out: {some(others)}.",)

        def of_split(pictures: list = pictures) -> Iterator[Picture]:
            return ((str(file), file) for *_, file in pictures)

        images, positions, said = gather(of_split, fitting, source, len(pictures))
        labels = np.array([label for label, *_ in pictures], np.int64)[positions]
        parts[split] = Part(images, labels, source)
        notes += said
    return Parts(parts["train"], parts.get("test"), dict(enumerate(classes)), notes)


def is_picture(file: Path) -> bool:
    """Whether its ending is a picture's."""
    return file.suffix.lower() in grey.ENDINGS


def folders_in(path: Path) -> list[Path]:
    """The folders in a folder, in natural order."""
    return [entry for entry in entries(path) if entry.is_dir()]


def innermost(path: Path) -> Path:
    """The folder in which there is a choice: archives often hold one folder that holds everything."""
    for _ in range(DEPTH):
        match folders_in(path):
            case [only] if folders_in(only):
                path = only
            case _:
                break
    return path
