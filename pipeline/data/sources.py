"""Data sets by name, downloaded where they are not on disk yet, or by the path of a folder or a file."""

import logging
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.data.folders import read_folder
from pipeline.data.forms.fitting import AS_THEY_ARE, Fitting
from pipeline.data.images import Dataset, ImageSet
from pipeline.data.splits import SPLIT_SEED, stratified_split
from pipeline.errors import WITHOUT_NETWORK, InputError, PipelineError, first_line, reason
from pipeline.files import make_folder
from pipeline.names import did_you_mean
from pipeline.network import impatient_sockets

logger = logging.getLogger(__name__)

DIGITS = tuple("0123456789")


def load(dataset: str, root: Path, fitting: Fitting = AS_THEY_ARE) -> Dataset:
    """Load a data set by name, downloaded where it is not on disk yet, or from a folder or file in any form.

    What its user must know is logged.

    Args:
        fitting: what becomes of the images.

    Raises:
        InputError: unknown name, no network, or broken files.
    """
    path = Path(dataset).expanduser()
    if dataset in SOURCES:
        found = SOURCES[dataset](root)
        train, test = (replace(part, images=fitting.arrays(part.images, dataset)) for part in (found.train, found.test))
        found = replace(found, train=train, test=test)
    elif path.exists():
        found = read_folder(path, name=registered_name(path), fitting=fitting)
    else:
        hint = did_you_mean(dataset, SOURCES, otherwise=f"choose one of {', '.join(SOURCES)}, or a folder or file.")
        raise InputError(f"There is no data set and no folder '{dataset}': {hint}")
    for note in found.notes:
        logger.info(note)
    return found


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
    return _torchvision("emnist-digits", "EMNIST", root, DIGITS, split="digits")


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
            raise InputError(
                f"{folder.name} could not be downloaded ({first_line(error)}): {WITHOUT_NETWORK}."
            ) from error
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
