"""A folder or a file of images with labels, in whichever form they come, as one checked data set."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np

from pipeline.data.forms import arrays, class_folders, idx_files, tables
from pipeline.data.forms.fitting import AS_THEY_ARE, Fitting
from pipeline.data.forms.parts import Part, Parts, counted, files_below, some
from pipeline.data.images import Dataset, ImageSet
from pipeline.data.splits import SPLIT_SEED, stratified_split
from pipeline.errors import InputError
from pipeline.names import natural

# The first that finds files of its form reads them.
FORMS: tuple[ModuleType, ...] = (idx_files, class_folders, arrays, tables)
MAX_CLASSES = 1_000
# Of classes that are numbered so many may be without a training image; beyond it a label is a mistake.
MAX_ABSENT = 50
# Of what comes without a test file so many images are one, and of each class one for training, validation and test.
TEST_SHARE = 6
MIN_OF_CLASS = 3
BLOCK = 1024


def read_folder(
    folder: Path,
    *,
    name: str,
    classes: tuple[str, ...] | Mapping[int, str] | None = None,
    fitting: Fitting = AS_THEY_ARE,
) -> Dataset:
    """Read and check a data set in any form: IDX files, class folders of pictures, arrays, or tables.

    Args:
        folder: its folder, or its file.
        classes: names of the labels 0, 1, ..., or by label; what the data itself says when not given.
        fitting: what becomes of the images.

    Raises:
        InputError: a file is broken or they do not fit together; the text names the file.
    """
    for form in FORMS:
        if found := form.find(folder):
            parts = form.read(folder, found, fitting)
            parts = replace(parts, notes=(*parts.notes, *unread(folder, form)))
            if classes:
                names = classes if isinstance(classes, Mapping) else dict(enumerate(classes))
                parts = replace(parts, names=names)
            return assemble(parts, name=name, source=str(folder))
    endings = dict.fromkeys(file.suffix.lower() or "no ending" for file in files_below(folder))
    raise InputError(
        f"{folder} holds no images with labels in a form that is known: pictures in class folders, as train/7/1.png or "
        "7/1.png, IDX files, .csv or .parquet tables, .npz or .npy arrays; unpack archives."
        + f" It has files of {some(endings)}."
        * bool(endings)
    )


def unread(folder: Path, form: ModuleType) -> Iterator[str]:
    """Notes on what else is there in a form that comes after the one that is read."""
    for other in (arrays, tables):
        if FORMS.index(other) > FORMS.index(form) and (files := other.find(folder)):
            yield f"{counted('file', files)} of another form beside the images are left out: {some(map(str, files))}."


def assemble(parts: Parts, *, name: str, source: str) -> Dataset:
    """One data set of what was read.

    Raises:
        InputError: training and test images do not go together, or there are too few of a class.
    """
    for part in (parts.train, parts.test):
        if part and not len(part.images):
            raise InputError(f"{part.source} has no images.")
    numbers = number_labels(parts.train, parts.names)
    if unclear := [name for name in numbers.values() if not (name.strip() and name.isprintable())]:
        raise InputError(f"{parts.train.source} has a class named {unclear[0]!a}: use letters that can be printed.")
    train = image_set(parts.train, numbers)
    if len(np.unique(train.targets)) < 2:
        raise InputError(f"{parts.train.source} has a single class: there is nothing to tell apart.")
    if not parts.test:
        return with_drawn_test(train, parts, name=name, source=source)
    test = image_set(parts.test, numbers)
    if test.images.shape[1:] != train.images.shape[1:]:
        sizes = [" x ".join(map(str, images.images.shape[1:])) for images in (test, train)]
        raise InputError(
            f"The test images of {source} have {sizes[0]} px, its training images {sizes[1]}: with "
            f"side={train.images.shape[1]} all are fitted to one square."
        )
    return Dataset(name, source, train, test, parts.notes)


def number_labels(train: Part, names: Mapping[int, str] | None) -> dict[int | str, str]:
    """The class of each label, in the order of the classes.

    Whole numbers that have names stand for these; else for classes from 0 to the highest of the training labels, or
    from the lowest where all from there on occur, as of EMNIST's letters, 1 to 26. Others are names, in natural order.

    Raises:
        InputError: more classes than anything can tell apart.
    """
    labels = [as_number(label) for label in np.unique(train.labels).tolist()]
    numbers = list(names) if names else [label for label in labels if isinstance(label, int)]
    if names or len(numbers) == len(labels):
        lowest, highest = min(numbers), max(numbers)
        without_gaps = len(numbers) == highest - lowest + 1
        lowest = lowest if names or without_gaps else min(lowest, 0)
        count = highest - lowest + 1
    else:
        count = len(labels)
    if count > MAX_CLASSES:
        raise InputError(f"{train.source} has labels of {count:,} classes: at most {MAX_CLASSES:,} are told apart.")
    if count - len(labels) > MAX_ABSENT and not names:
        raise InputError(
            f"{train.source} has labels from {lowest} to {highest:,}, of which only {len(labels)} occur: a label is "
            "wrong, or number the classes without gaps."
        )
    known: Sequence[int | str] = (
        range(lowest, highest + 1)
        if names or len(numbers) == len(labels)
        else sorted(map(str, labels), key=lambda label: (natural(str(label)), label))
    )
    return {label: names.get(label, str(label)) if names and isinstance(label, int) else str(label) for label in known}


def as_number(label: int | str) -> int | str:
    """A label as a whole number where it is one."""
    if isinstance(label, int):
        return label
    try:
        return int(float(label)) if float(label).is_integer() else label
    except (ValueError, OverflowError):
        return label


def image_set(part: Part, numbers: Mapping[int | str, str]) -> ImageSet:
    """A part with its labels as positions of their classes.

    Raises:
        InputError: a label that training does not have.
    """
    known, order = np.unique(part.labels, return_inverse=True)
    positions = {label: position for position, label in enumerate(numbers)}
    labels = [
        next((one for one in (label, as_number(label), str(as_number(label))) if one in positions), as_number(label))
        for label in known.tolist()
    ]
    if unknown := [label for label in labels if label not in positions]:
        first, *_, last = numbers
        raise InputError(
            f"{part.source} has the label {unknown[-1]!r}, but there are {len(numbers)} classes ({first} to {last})."
        )
    targets = np.array([positions[label] for label in labels], np.int64)[order]
    return ImageSet(part.images, targets, tuple(numbers.values()))


def with_drawn_test(whole: ImageSet, parts: Parts, *, name: str, source: str) -> Dataset:
    """A data set without a test file, of which a sixth is drawn as one.

    Raises:
        InputError: a class has too few images.
    """
    counts = np.bincount(whole.targets, minlength=len(whole.classes))
    if few := [
        f"{name} {count}" for name, count in zip(whole.classes, counts, strict=True) if 0 < count < MIN_OF_CLASS
    ]:
        raise InputError(
            f"{parts.train.source} has too few images of a class ({some(few)}): without a test file it takes "
            f"{MIN_OF_CLASS}, one each for training, validation and test."
        )
    held_out = max(round(len(whole) / TEST_SHARE), int(np.count_nonzero(counts)))
    train, test = stratified_split(whole.targets, held_out=held_out, seed=SPLIT_SEED)
    drawn = (
        f"{source} has no test file: {held_out:,} of its {len(whole):,} images, each class in proportion, drawn once "
        "for all with a fixed seed, serve as one."
    )
    # The test images first: the training images then move up in the memory of the whole, which a copy would double.
    tested = whole.subset(test)
    for first in range(0, len(train), BLOCK):
        moved = train[first : first + BLOCK]
        whole.images[first : first + len(moved)] = whole.images[moved]
    kept = ImageSet(whole.images[: len(train)], whole.targets[train], whole.classes)
    return Dataset(name, source, kept, tested, (*parts.notes, drawn))
