"""Pictures in folders that are named as their classes: `train/7/1.png` and `test/7/1.png`, or `7/1.png` alone."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.data import grey
from pipeline.data.forms.fitting import Fitting, Picture, gather
from pipeline.data.forms.parts import SPLITS, Part, Parts, Split, counted, entries, files_below, some, split_of
from pipeline.errors import InputError
from pipeline.names import natural

# Folders of a class may have folders, as of writers, within them.
DEPTH = 8

# By class, its files with their paths within the class.
Classes = dict[str, list[tuple[str, Path]]]


@dataclass(frozen=True)
class Found:
    """The pictures of a data set.

    Attributes:
        files: of every class with pictures, by part.
        notes: what is left out, and how folders are understood where that is not plain, in sentences.
    """

    files: Mapping[Split, Classes]
    notes: tuple[str, ...]


def find(path: Path) -> Found | None:
    """The files of every class in the training and the test folder; None where there are no pictures.

    Raises:
        InputError: a folder may not be read, or there are several data sets.
    """
    if not path.is_dir():
        return None
    top = innermost(path)
    roots: list[tuple[Path, Split | None]] = [(innermost(folder), split) for folder, split in part_folders(top)]
    if not roots and len(sets := [folder for folder in folders_in(top) if part_folders(folder)]) > 1:
        raise InputError(f"{path} holds several data sets, as {some(map(str, sets))}: name a folder with one.")
    of_classes = [(folder, split) for root, split in roots or [(top, None)] for folder in class_folders(root)]
    files: dict[Split, Classes] = {"train": {}, "test": {}}
    nested, empty = [], []
    for folder, split in of_classes:
        below = [(file.relative_to(folder), file) for file in files_below(folder, DEPTH)]
        if not any(is_picture(file) for _, file in below):
            empty.append(str(folder))
            continue
        for within, file in below:
            # The parts may lie within the class.
            inner = None if split or len(within.parts) == 1 else split_named(within.parts[0])
            files[split or inner or "train"].setdefault(folder.name, []).append((str(within), file))
            if is_picture(file) and len(within.parts) > 1 + bool(inner):
                nested.append(str(file.parent))
    outside = [str(file) for file in files_below(path, DEPTH, but={one for one, _ in of_classes}) if is_picture(file)]
    found = {split: classes for split, classes in files.items() if classes}
    classes = dict.fromkeys(folder.name for folder, _ in of_classes)
    says = {
        "{} outside of the folders of classes are left out: {}.": ("picture", outside),
        "{} without pictures make no class: {}.": ("folder", empty),
        "{} within those of classes count to these: {}; the classes are " + some(classes) + ".": (
            "folder",
            list(dict.fromkeys(nested)),
        ),
    }
    notes = [text.format(counted(kind, names), some(names)) for text, (kind, names) in says.items() if names]
    return Found(found, tuple(notes)) if found else None


def read(path: Path, found: Found, fitting: Fitting) -> Parts:
    """Read the pictures that `find` found.

    They are in the order of their names, whatever their class: pictures that are numbered through come in the order
    of the data set they were taken from.

    Raises:
        InputError: there is no training folder, the test has a class that training lacks, or too many cannot be read.
    """
    if "train" not in found.files:
        raise InputError(f"{path} has a test folder with pictures, but no training folder: name it train.")
    classes = sorted(found.files["train"], key=lambda name: (natural(name), name))
    if unknown := [name for name in found.files.get("test", {}) if name not in classes]:
        raise InputError(f"{path} has test pictures of {some(unknown)}, a class without training pictures.")
    notes = found.notes
    parts: dict[Split, Part] = {}
    for split, files in found.files.items():
        source = f"{path} ({split})" if len(found.files) > 1 else str(path)
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


def split_named(name: str) -> Split | None:
    """The part that a folder's whole name tells, as Train, training_set or VALIDATION."""
    return SPLITS.get(re.sub(r"[^a-z0-9]", "", name.lower()))


def part_folders(path: Path) -> list[tuple[Path, Split]]:
    """The folders of a training and a test file, which have folders of classes in them.

    A whole name tells a part. A word of it does where all names have one: `train_images` beside `test_images`, but not
    `test tubes` beside `beakers`.
    """
    outer = [folder for folder in folders_in(path) if folders_in(folder)]
    told = [(folder, split) for folder in outer if (split := split_of(folder.name))]
    if len(told) == len(outer) > 1 and not any(map(part_folders, outer)):
        return told
    return [(folder, split) for folder in outer if (split := split_named(folder.name))]


def folders_in(path: Path) -> list[Path]:
    """The folders in a folder, in natural order."""
    return [entry for entry in entries(path) if entry.is_dir()]


def innermost(path: Path) -> Path:
    """The folder in which there is a choice: archives often hold one folder that holds everything."""
    for _ in range(DEPTH):
        match folders_in(path):
            case [only] if folders_in(only) and not is_character(only.name) and not split_named(only.name):
                path = only
            case _:
                break
    return path


def class_folders(root: Path) -> list[Path]:
    """The folders of classes: those in a folder, or in each writer's folder those named by characters or numbers."""
    outer = folders_in(root)
    inner = [folder for writer in outer for folder in folders_in(writer) if not split_named(folder.name)]
    of_writers = inner and all(is_character(folder.name) for folder in inner)
    return inner if of_writers and not any(is_character(folder.name) for folder in outer) else outer


def is_character(name: str) -> bool:
    """Whether a folder of this name is that of a digit, a letter or a number rather than of anything else."""
    return len(name) == 1 or name.isdecimal()
