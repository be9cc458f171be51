"""NumPy's files: an `.npz` with Keras's, MedMNIST's or KMNIST's names, or pairs of `.npy` files."""

import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from pipeline.data.forms.fitting import Fitting
from pipeline.data.forms.parts import (
    SPLITS,
    Gathered,
    Part,
    Parts,
    Split,
    check_one_set,
    counted,
    files_below,
    set_told,
    some,
    split_told,
    words,
)
from pipeline.data.idx import mistaken_for
from pipeline.data.pixels import MAX_SIDE, as_images, check_room, image_size
from pipeline.errors import InputError, first_line

ENDINGS = (".npz", ".npy")
# The last word of `x_train`, `train_images` or `kmnist-test-imgs` when the part is taken off.
KINDS = {
    "images": ("x", "image", "images", "img", "imgs", "data", "pixel", "pixels"),
    "labels": ("y", "label", "labels", "target", "targets", "class", "classes"),
}
BLOCK_BYTES = 16_000_000
MAX_DIMENSIONS = 4
# A label is a number, a name, or a one among so many numbers.
MAX_LABEL_BYTES = 16_000

# An array's own name, and what opens it.
Entry = tuple[str, Callable[[], AbstractContextManager[IO[bytes]]]]


def find(path: Path) -> list[Path]:
    """The files of arrays."""
    return [file for file in files_below(path) if file.suffix.lower() in ENDINGS]


def read(path: Path, files: list[Path], fitting: Fitting) -> Parts:
    """Read the arrays of these files, by their names; those for validation count to training.

    Raises:
        InputError: names that do not tell images from labels, or arrays that are neither; the text names them.
    """
    entries = [entry for file in files for entry in entries_of(file)]
    found: dict[Split, dict[str, list[Entry]]] = {"train": {}, "test": {}}
    # Sorted by their names, so that labels come in the order of their images where there are several of each.
    for entry in sorted(entries, key=lambda entry: entry[0]):
        if kind := kind_of(entry[0]):
            # The array's own name tells the part, or else its file's or a folder's.
            found[split_told(Path(entry[0]), path) or "train"].setdefault(kind, []).append(entry)
    of_images = [name for kinds in found.values() for name, _ in kinds.get("images", [])]
    known = sum(KINDS.values(), ())
    check_one_set(path, {set_told(Path(name), path, but=known): name for name in reversed(of_images)})
    others = [name for name, _ in entries if not kind_of(name)]
    notes: tuple[str, ...] = ()
    if others:
        notes = (f"{counted('array', others)} whose name tells neither are left out: {some(others)}.",)
    if any(len(found["train"].get(kind, [])) != len(found["train"].get("images", [None])) for kind in KINDS):
        raise InputError(
            f"{path} has the arrays {some((name for name, _ in entries), 8)}, whose names do not tell images and "
            "labels: x_train and y_train, or train_images and train_labels do, with test instead of train for the test."
        )
    train = read_part(f"{path} (train)", found["train"], fitting)
    if "labels" not in found["test"]:
        notes += (f"{found['test']['images'][0][0]} has no labels and is left out.",) if found["test"] else ()
        return Parts(train, None, notes=notes)
    return Parts(train, read_part(f"{path} (test)", found["test"], fitting), notes=notes)


def entries_of(file: Path) -> Iterator[Entry]:
    """The arrays in a file with their names, which are the file's where it has one without a name."""
    if file.suffix.lower() == ".npy":
        yield str(file.with_suffix("")), partial(open_array, file)
        return
    with reading(str(file)), zipfile.ZipFile(file) as archive:
        members = archive.namelist()
    for member in members:
        # Names come from outside, and messages are one line.
        key = "".join(letter if letter.isprintable() else "?" for letter in member.removesuffix(".npy"))
        name = str(file.with_suffix("")) if key == "arr_0" and len(members) == 1 else f"{file}/{key}"
        yield name, partial(open_array, file, member)


@contextmanager
def open_array(file: Path, member: str = "") -> Iterator[IO[bytes]]:
    """The content of a file, or of a member of an archive."""
    if not member:
        with file.open("rb") as opened:
            yield opened
        return
    with zipfile.ZipFile(file) as archive, archive.open(member) as opened:
        yield opened


def kind_of(name: str) -> str | None:
    """Whether an array of this name is of images or of labels."""
    told = [word for word in words(Path(name).name) if word and word not in SPLITS]
    return next((kind for kind, names in KINDS.items() if told and told[-1] in names), None)


def read_part(source: str, kinds: Mapping[str, list[Entry]], fitting: Fitting) -> Part:
    """Images and labels of one part, joined where there are several of each."""
    gathered = Gathered(source)
    for name, opened in kinds["images"]:
        with reading(name), opened() as file:
            for block in blocks(file, name):
                gathered.add(as_images(block, name))
    labels = []
    for name, opened in kinds["labels"]:
        with reading(name), opened() as file:
            labels.append(as_labels(np.concatenate(list(blocks(file, name, images=False))), name))
    return Part(fitting.arrays(gathered.images(), source), np.concatenate(labels), source)


def blocks(file: IO[bytes], name: str, *, images: bool = True) -> Iterator[np.ndarray]:
    """The array in a file of NumPy's, a few of its first axis at a time.

    Raises:
        InputError: objects, which would have to be unpickled, or more than there is room for.
        ValueError, EOFError: it is no such file.
    """
    version = npy.read_magic(file)
    header = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
    if header is None:
        raise ValueError("a version of the format that is not known")
    shape, by_columns, kind = header(file)
    if kind.hasobject or kind.itemsize == 0 or not shape or len(shape) > MAX_DIMENSIONS or min(shape) < 1:
        raise InputError(f"{name} has the shape {shape} of {kind}: images or labels are due.")
    row = int(np.prod(shape[1:], dtype=object)) * kind.itemsize
    if not images and row > MAX_LABEL_BYTES:
        raise InputError(f"{name} has the shape {shape} of {kind}: a label an image is due.")
    if images:
        check_room(shape[0], *image_size(shape, name), name)
    if by_columns or not images:
        check_room(shape[0], 1, min(row, MAX_SIDE), name)
    at_once = shape[0] if by_columns else max(1, BLOCK_BYTES // row)
    for first in range(0, shape[0], at_once):
        count = min(at_once, shape[0] - first)
        content = file.read(count * row)
        if len(content) < count * row:
            raise EOFError("it ends before all of it was read")
        block = np.frombuffer(content, kind)
        yield block.reshape(shape[::-1]).T if by_columns else block.reshape(count, *shape[1:])


def as_labels(labels: np.ndarray, name: str) -> np.ndarray:
    """Labels (N,) of labels (N,), (N, 1), or of a one for the class in each row (N, classes).

    Raises:
        InputError: they are something else; the text begins with the name.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 2 and labels.dtype.kind in "biuf" and ((labels == 0) | (labels == 1)).all():
        if (labels.sum(1) == 1).all():
            return labels.argmax(1)
        raise InputError(f"{name} has several or no labels for an image: one is due.")
    if labels.ndim != 1 or labels.dtype.kind not in "biufUS":
        raise InputError(f"{name} has the shape {labels.shape} of {labels.dtype}: a label an image is due.")
    if labels.dtype.kind in "fu":
        # Wide enough for the limit, of which a small type knows nothing; beyond it not every number is exact.
        wide = labels.astype(np.float64)
        if not ((wide == np.rint(wide)) & (np.abs(wide) < 2**53)).all():
            raise InputError(f"{name} has labels that are no whole numbers, or too large ones.")
    return np.strings.strip(labels.astype(str)) if labels.dtype.kind in "US" else labels.astype(np.int64)


@contextmanager
def reading(name: str) -> Iterator[None]:
    """What NumPy or the archive says of a broken file as one sentence."""
    try:
        yield
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise InputError(f"{name} {_why(name, error)}.") from error


def _why(name: str, error: BaseException) -> str:
    file = Path(name)
    # An archive is what an .npz is.
    if file.is_file() and file.suffix.lower() != ".npz":
        with file.open("rb") as opened:
            if mistaken := mistaken_for(opened.read(64)):
                return mistaken
    return f"is no array of NumPy's that can be read ({first_line(error)})"
