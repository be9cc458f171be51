"""Data sets by name, downloaded where they are not on disk yet, or in a folder of IDX files."""

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.data.folders import read_folder
from pipeline.data.images import Dataset, ImageSet
from pipeline.data.splits import SPLIT_SEED, stratified_split
from pipeline.errors import InputError, PipelineError, Unreachable, first_line, reason
from pipeline.files import make_folder
from pipeline.names import did_you_mean
from pipeline.network import Download, impatient_sockets

DIGITS = tuple("0123456789")
# What torchvision's mirrors send, in MB.
DOWNLOADS = {"mnist": 12, "fashion-mnist": 31, "kmnist": 21, "emnist-digits": 562}


def load(dataset: str, root: Path, *, name: str = "") -> Dataset:
    """Load a data set by name, or a folder of IDX files, and download it where it is not on disk yet.

    Args:
        name: what it is to be called, by default as it is.

    Raises:
        InputError: unknown name, no network, or broken files; or a name that the model registry would not take.
    """
    check_name(dataset)
    if name and name != registered_name(Path(name)):
        raise InputError(f"'{name}' cannot name a data set: use small letters, digits, _ and -.")
    if dataset in SOURCES:
        found = SOURCES[dataset](root)
        return replace(found, name=name) if name else found
    folder = Path(dataset).expanduser()
    found = read_folder(folder, name=name or registered_name(folder))
    return replace(found, source=str(folder.resolve()))


def check_name(dataset: str) -> None:
    """Refuse what is neither a data set's name nor a folder, before anything is read.

    Raises:
        InputError: which there are.
    """
    if dataset in SOURCES or Path(dataset).expanduser().is_dir():
        return
    hint = did_you_mean(dataset, SOURCES, otherwise=f"choose one of {', '.join(SOURCES)}, or a folder of IDX files.")
    raise InputError(f"There is no data set and no folder '{dataset}': {hint}")


def download_of(dataset: str, root: Path) -> list[Download]:
    """What `load` would download: one thing or nothing."""
    if dataset not in DOWNLOADS or (root / "datasets" / dataset).is_dir():
        return []
    # Images held out by number would be too many of the digits.
    return [Download(dataset, DOWNLOADS[dataset], {"dataset": "digits", "val_size": None})]


def stand_in(dataset: str) -> Dataset:
    """A few blank images in the form that all data sets have that are downloaded, to check options on."""
    blank = ImageSet(np.zeros((120, 28, 28), np.uint8), np.arange(120) % 10, DIGITS)
    return Dataset(dataset, "", blank, blank)


def registered_name(folder: Path) -> str:
    """The folder's name with only the characters that a name in the model registry may have."""
    return re.sub(r"[^\w-]+", "-", folder.resolve().name).strip("-").lower() or "folder"


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
    dataset = _torchvision("emnist-digits", "EMNIST", root, DIGITS, split="digits")
    # The files hold the transposed images, an old quirk of theirs.
    upright = [
        replace(part, images=np.ascontiguousarray(part.images.transpose(0, 2, 1)))
        for part in (dataset.train, dataset.test)
    ]
    return replace(dataset, train=upright[0], test=upright[1])


SOURCES: dict[str, Callable[[Path], Dataset]] = {
    "digits": digits,
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "kmnist": kmnist,
    "emnist-digits": emnist_digits,
}


def _torchvision(name: str, loader: str, root: Path, classes: tuple[str, ...], **options: str) -> Dataset:
    """Read `root/datasets/NAME`, fetched through torchvision's mirrors and checksums if it is not there."""
    folder = root / "datasets" / name
    if not folder.is_dir():
        _download(folder, loader, **options)
    return read_folder(folder, name=name, classes=classes)


def _download(folder: Path, loader: str, **options: str) -> None:
    import torchvision

    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        try:
            with impatient_sockets():
                getattr(torchvision.datasets, loader)(temporary, download=True, **options)
        except (OSError, RuntimeError) as error:
            if why := reason(error):
                raise PipelineError(f"{folder.name} could not be downloaded. {why}") from error
            raise Unreachable(folder.name, first_line(error)) from error
        pattern = f"*{options['split']}-*-ubyte" if "split" in options else "*-ubyte"
        complete = Path(temporary) / "complete"
        complete.mkdir()
        for path in Path(temporary, loader, "raw").rglob(pattern):
            shutil.move(path, complete)
        # A rename is atomic; where another process was faster, its copy is as good.
        try:
            complete.rename(folder)
        except OSError:
            if not folder.is_dir():
                raise
