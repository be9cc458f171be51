"""Data sets by name, downloaded where they are not on disk yet, or by the path of a folder or a file."""

import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from string import ascii_uppercase
from typing import Any

import numpy as np

from pipeline.data import idx
from pipeline.data.folders import read_folder
from pipeline.data.forms.fitting import AS_THEY_ARE, Fitting
from pipeline.data.images import Dataset, ImageSet
from pipeline.data.pixels import as_images
from pipeline.data.splits import SPLIT_SEED, stratified_split
from pipeline.errors import InputError, PipelineError, Unreachable, first_line, reason
from pipeline.files import make_folder
from pipeline.names import did_you_mean, printable
from pipeline.network import Download, impatient_sockets

logger = logging.getLogger(__name__)

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Published:
    """What is known of a data set before it is there: what torchvision's mirrors send, and its form."""

    megabytes: int
    side: int = 28
    classes: int = 10


# EMNIST comes as one archive of all of its data sets.
DOWNLOADS = {
    "mnist": Published(12),
    "fashion-mnist": Published(31),
    "kmnist": Published(21),
    "qmnist": Published(20),
    "usps": Published(8, side=16),
    "svhn": Published(246, side=32),
    "emnist-digits": Published(562),
    "emnist-letters": Published(562, classes=26),
    "emnist-balanced": Published(562, classes=47),
    "emnist-byclass": Published(562, classes=62),
}


def load(dataset: str, root: Path, fitting: Fitting = AS_THEY_ARE, *, name: str = "") -> Dataset:
    """Load a data set by name, downloaded where it is not on disk yet, or from a folder or file in any form.

    What its user must know is logged.

    Args:
        fitting: what becomes of the images.
        name: what it is to be called, by default as it is.

    Raises:
        InputError: unknown name, no network, or broken files; or a name that the model registry would not take.
    """
    check_name(dataset, name)
    path = Path(dataset).expanduser()
    if dataset in SOURCES:
        found = SOURCES[dataset](root)
        train, test = (replace(part, images=fitting.arrays(part.images, dataset)) for part in (found.train, found.test))
        found = replace(found, train=train, test=test, name=name or dataset)
    else:
        found = read_folder(path, name=name or registered_name(path), fitting=fitting)
        found = replace(found, source=str(path.resolve()))
    found = replace(found, notes=tuple(map(printable, found.notes)))
    for note in found.notes:
        logger.info(note)
    return found


def check_name(dataset: str, name: str = "") -> None:
    """Refuse what is neither a data set's name nor a folder or file, before anything is read.

    Args:
        name: what it is to be called, by default as it is.

    Raises:
        InputError: which there are; or what name the model registry would not take.
    """
    if name and name != registered_name(Path(name)):
        raise InputError(f"'{name}' cannot name a data set: use small letters, digits, _ and -.")
    if dataset in SOURCES:
        return
    if Path(dataset).expanduser().exists():
        whole = str(Path(dataset).expanduser().resolve())
        if printable(whole) != whole:
            raise InputError(f"{printable(whole)} has a name that is not UTF-8, which no run can record: rename it.")
        return
    hint = did_you_mean(dataset, SOURCES, otherwise=f"choose one of {', '.join(SOURCES)}, or a folder or file.")
    raise InputError(f"There is no data set and no folder '{dataset}': {hint}")


def check_different(datasets: Sequence[Dataset]) -> None:
    """Refuse several data sets of which two could not be told apart.

    Raises:
        InputError: two have the same images, or the same name.
    """
    for first, second in combinations(datasets, 2):
        if first.sha256 == second.sha256:
            raise InputError(f"{first.name} and {second.name} have the same images: name one of them.")
        if first.name == second.name:
            raise InputError(f"Two data sets are called {first.name}: rename one of the folders.")


def download_of(dataset: str, root: Path) -> list[Download]:
    """What `load` would download: one thing or nothing."""
    if dataset not in DOWNLOADS or (root / "datasets" / dataset).is_dir():
        return []
    # Images held out by number would be too many of the digits.
    return [Download(dataset, DOWNLOADS[dataset].megabytes, {"dataset": "digits", "datasets": None, "val_size": None})]


def stand_in(dataset: str, side: int | None = None) -> Dataset:
    """A few blank images in the form of a data set that is not downloaded yet, to check options on.

    Args:
        side: that its images are fitted to, if they are.
    """
    form = DOWNLOADS[dataset]
    labels = np.arange(12 * form.classes) % form.classes
    images = np.zeros((len(labels), side or form.side, side or form.side), np.uint8)
    blank = ImageSet(images, labels, tuple(map(str, range(form.classes))))
    return Dataset(dataset, "", blank, blank)


def registered_name(path: Path) -> str:
    """The folder's or file's name with only the characters that a name in the model registry may have."""
    name = path.resolve().name if path.is_dir() else path.resolve().name.split(".")[0]
    return re.sub(r"[^\w-]+", "-", name).strip("-").lower() or "folder"


def digits(root: Path) -> Dataset:
    """scikit-learn's 1,797 digits of 8 x 8 px in MNIST's format: 20 px high in a 28 px frame, 0 to 255.

    They come without a test file: a fifth of each class, drawn once for all with a fixed seed, serves as one.
    """
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images).float()[:, None] * (255 / 16)
    large = torch.nn.functional.interpolate(small, size=20, mode="bilinear", align_corners=False)
    images = torch.nn.functional.pad(large, (4, 4, 4, 4)).round().to(torch.uint8)[:, 0].numpy()
    whole = ImageSet(images, bunch.target.astype(np.int64), DIGITS)
    train, test = stratified_split(whole.targets, held_out=360, seed=SPLIT_SEED)
    return Dataset("digits", "scikit-learn", whole.subset(train), whole.subset(test))


def mnist(root: Path) -> Dataset:
    """Handwritten digits, 60,000 and 10,000 of 28 x 28 px."""
    return _torchvision("mnist", "MNIST", root, DIGITS)


def fashion_mnist(root: Path) -> Dataset:
    """Pieces of clothing, in MNIST's format and numbers."""
    from torchvision.datasets import FashionMNIST

    return _torchvision("fashion-mnist", "FashionMNIST", root, tuple(FashionMNIST.classes))


def kmnist(root: Path) -> Dataset:
    """Cursive Japanese characters, in MNIST's format and numbers."""
    from torchvision.datasets import KMNIST

    return _torchvision("kmnist", "KMNIST", root, tuple(KMNIST.classes))


def emnist_digits(root: Path) -> Dataset:
    """The digits of EMNIST, 240,000 and 40,000, turned upright."""
    return _torchvision("emnist-digits", "EMNIST", root, DIGITS, [{"split": "digits"}])


def emnist_letters(root: Path) -> Dataset:
    """EMNIST's letters, capitals and small ones as one class, 124,800 and 20,800, turned upright."""
    names = {ord(letter) - ord("A") + 1: letter for letter in ascii_uppercase}
    return _torchvision("emnist-letters", "EMNIST", root, names, [{"split": "letters"}])


def emnist_balanced(root: Path) -> Dataset:
    """EMNIST's digits and letters, as many of each, in 47 classes, 112,800 and 18,800, turned upright."""
    from torchvision.datasets import EMNIST

    classes = tuple(EMNIST.classes_split_dict["balanced"])
    return _torchvision("emnist-balanced", "EMNIST", root, classes, [{"split": "balanced"}])


def emnist_byclass(root: Path) -> Dataset:
    """EMNIST's digits, capitals and small letters, as often as they were written, 697,932 and 116,323, upright."""
    from torchvision.datasets import EMNIST

    classes = tuple(EMNIST.classes_split_dict["byclass"])
    return _torchvision("emnist-byclass", "EMNIST", root, classes, [{"split": "byclass"}])


def qmnist(root: Path) -> Dataset:
    """MNIST made once more from its sources, with all of its 60,000 test images."""
    return _torchvision("qmnist", "QMNIST", root, DIGITS, [{"train": True}, {"train": False}])


def usps(root: Path) -> Dataset:
    """Digits from envelopes, 7,291 and 2,007 of 16 x 16 px."""
    return _torchvision("usps", "USPS", root, DIGITS, [{"train": True}, {"train": False}])


def svhn(root: Path) -> Dataset:
    """House numbers cut into digits, 73,257 and 26,032 photographs of 32 x 32 px, in grey."""
    return _torchvision("svhn", "SVHN", root, DIGITS, [{"split": "train"}, {"split": "test"}])


SOURCES: dict[str, Callable[[Path], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "kmnist": kmnist,
    "qmnist": qmnist,
    "usps": usps,
    "svhn": svhn,
    "emnist-digits": emnist_digits,
    "emnist-letters": emnist_letters,
    "emnist-balanced": emnist_balanced,
    "emnist-byclass": emnist_byclass,
}


def _torchvision(
    name: str,
    loader: str,
    root: Path,
    classes: tuple[str, ...] | Mapping[int, str],
    calls: Sequence[Mapping[str, Any]] = ({},),
) -> Dataset:
    """Read `root/datasets/NAME`, fetched through torchvision's mirrors and checksums if it is not there.

    Args:
        calls: options of each call of torchvision's class that fetches a part.
    """
    folder = root / "datasets" / name
    if not folder.is_dir():
        _download(folder, loader, calls)
    return read_folder(folder, name=name, classes=classes)


def _download(folder: Path, loader: str, calls: Sequence[Mapping[str, Any]]) -> None:
    import torchvision

    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        try:
            with impatient_sockets():
                fetch = getattr(torchvision.datasets, loader)
                fetched = [fetch(temporary, download=True, **options) for options in calls]
        except (OSError, RuntimeError) as error:
            if why := reason(error):
                raise PipelineError(f"{folder.name} could not be downloaded. {why}") from error
            raise Unreachable(folder.name, first_line(error)) from error
        complete = Path(temporary) / "complete"
        complete.mkdir()
        raw = Path(temporary, loader, "raw")
        if raw.is_dir():
            # An archive of EMNIST has all of its data sets.
            part = f"*{calls[0]['split']}" if "split" in calls[0] else ""
            for path in [path for pattern in ("ubyte", "int") for path in raw.rglob(f"{part}*-{pattern}")]:
                shutil.move(path, complete)
        else:
            for prefix, part_of in zip(("train", "t10k"), fetched, strict=True):
                _write_part(complete, prefix, part_of)
        # A rename is atomic; where another process was faster, its copy is as good.
        try:
            complete.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise


def _write_part(folder: Path, prefix: str, fetched: Any) -> None:
    """Write a part of a data set that is kept in another format as IDX files."""
    pixels = np.asarray(fetched.data)
    if pixels.ndim == 4:
        pixels = pixels.transpose(0, 2, 3, 1)
    # A block at a time: of colours, brightness takes twelve times their bytes.
    blocks = [as_images(pixels[first : first + 1024], prefix) for first in range(0, len(pixels), 1024)]
    labels = np.asarray(fetched.labels if hasattr(fetched, "labels") else fetched.targets)
    idx.write(folder / f"{prefix}-images-idx3-ubyte", np.concatenate(blocks))
    idx.write(folder / f"{prefix}-labels-idx1-ubyte", labels)
