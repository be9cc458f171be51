"""Digit images: reading, downloading, checking, splitting.

    IDX files -> ImageSet (train), ImageSet (test) = Dataset -> Splits

An image set is one uint8 array in memory (MNIST's training images are 47 MB). The IDX format is described on MNIST's
page: two zero bytes, a type byte (8: unsigned byte), the number of dimensions, each dimension as a big-endian 32-bit
integer, then the values.
"""

import difflib
import gzip
import hashlib
import math
import re
import shutil
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import idx2numpy
import numpy as np

from pipeline.errors import WITHOUT_NETWORK, InputError, first_line
from pipeline.network import impatient_sockets

LARGEST_SIDE = 4096
CHUNK = 1 << 20
SPLIT_SEED = 0
DIGITS = tuple("0123456789")

# Deflate cannot shrink data further than this, so a header that promises more is a lie.
GZIP_LARGEST_RATIO = 1032


@dataclass(frozen=True)
class ImageSet:
    """Images with their labels.

    Attributes:
        images: uint8 (N, H, W), 0 black to 255 white.
        targets: int64 (N,), indices into `classes`.
        classes: names of the classes.
    """

    images: np.ndarray
    targets: np.ndarray
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def sha256(self) -> str:
        """Hash of the content: shape, pixels and labels, however they are stored."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images))
        digest.update(np.ascontiguousarray(self.targets.astype("<i8")))
        return digest.hexdigest()

    def subset(self, indices: np.ndarray) -> "ImageSet":
        """The images at these positions."""
        return replace(self, images=self.images[indices], targets=self.targets[indices])


@dataclass(frozen=True)
class Dataset:
    """A training file, from which validation is split off, and a test file, which is used once."""

    name: str
    source: str
    train: ImageSet
    test: ImageSet

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of both files."""
        return hashlib.sha256(f"{self.train.sha256}{self.test.sha256}".encode()).hexdigest()


@dataclass(frozen=True)
class Splits:
    """What a training may see of a data set."""

    train: ImageSet
    val: ImageSet
    test: ImageSet


# --- IDX -----------------------------------------------------------------------------------------------------------


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or gzip-compressed.

    Never takes more memory than the file holds: the header is checked against the content before anything is built.

    Args:
        path: the file; gzip is recognised by its content.
        dimensions: 3 for images, 1 for labels.

    Returns:
        uint8 array with `dimensions` axes.

    Raises:
        InputError: the file cannot be read or is no such IDX file; the text names the file.
    """
    try:
        with path.open("rb") as raw:
            compressed = raw.read(2) == b"\x1f\x8b"
        size = path.stat().st_size
        limit = size * GZIP_LARGEST_RATIO if compressed else size
        with gzip.open(path, "rb") if compressed else path.open("rb") as file:
            content = file.read(4 + 4 * dimensions)
            expected = len(content) + payload_size(content, dimensions, path)
            if expected > limit:
                raise InputError(
                    f"{path} is truncated: its header promises {expected:,} bytes, the file has {size:,}"
                    f"{' compressed' if compressed else ''}; fetch it again."
                )
            # In pieces, so that memory follows what is there and not what the header promises.
            pieces = [content]
            while piece := file.read(min(CHUNK, expected + 1 - sum(map(len, pieces)))):
                pieces.append(piece)
            content = b"".join(pieces)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be read ({error}); check the file or fetch it again.") from error
    if len(content) != expected:
        state = "truncated" if len(content) < expected else "longer than its header says"
        raise InputError(f"{path} is {state}: its header promises {expected:,} bytes; fetch it again.")
    # torch shares memory with arrays, and only with writable ones.
    return np.require(idx2numpy.convert_from_string(content), requirements="W")


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write a uint8 array as an IDX file; idx2numpy would take a second for ten thousand images."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
    with path.open("wb") as file:
        file.write(header)
        file.write(np.ascontiguousarray(array, np.uint8))


def payload_size(header: bytes, dimensions: int, path: Path) -> int:
    """The number of values that an IDX file's header promises.

    Raises:
        InputError: it is no header of an IDX file with so many dimensions, or an absurd one.
    """
    if not header:
        raise InputError(f"{path} is empty; fetch it again.")
    if header.lstrip()[:1] == b"<":
        raise InputError(f"{path} is a web page, not IDX data: the download went wrong; fetch it again.")
    if header[:2] != b"\0\0" or header[2:4] != bytes([8, dimensions]):
        raise InputError(
            f"{path} is no IDX file of {'images' if dimensions == 3 else 'labels'}: "
            f"it starts with 0x{header[:4].hex()} where 0x000008{dimensions:02x} is expected."
        )
    if len(header) < 4 + 4 * dimensions:
        raise InputError(f"{path} is truncated within its header; fetch it again.")
    shape = [int.from_bytes(header[i : i + 4], "big") for i in range(4, 4 + 4 * dimensions, 4)]
    if 0 in shape or any(side > LARGEST_SIDE for side in shape[1:]):
        raise InputError(f"{path} has an absurd header: a shape of {tuple(shape)}; fetch it again.")
    return math.prod(shape)


def find_idx(folder: Path) -> dict[str, Path]:
    """Find the four files of an IDX data set in any of the usual namings.

    `train-images-idx3-ubyte`, `train-images.idx3-ubyte`, `t10k-` or `test-` for the test files, plain or `.gz`, with a
    prefix such as `emnist-digits-` or none, also inside a folder of the same name as in the Kaggle archive.

    Returns:
        paths under the keys train-images, train-labels, test-images and test-labels.

    Raises:
        InputError: a file is missing, or several data sets lie in the folder.
    """
    pattern = re.compile(r"(?P<prefix>.*-)?(?P<split>train|t10k|test)-(?P<kind>images|labels)[-.]idx[13]-ubyte(\.gz)?")
    found: dict[str, Path] = {}
    sets = set()
    # Plain files sort before their compressed twins and win over them.
    for path in sorted([*folder.glob("*"), *folder.glob("*/*")], key=lambda path: (path.suffix == ".gz", path)):
        if path.is_file() and (match := pattern.fullmatch(path.name)):
            inside_its_own_name = path.parent.name == path.name.removesuffix(".gz")
            home = folder if inside_its_own_name else path.parent
            sets.add(str(home / f"{match['prefix'] or ''}*"))
            split = "train" if match["split"] == "train" else "test"
            found.setdefault(f"{split}-{match['kind']}", path)
    if len(sets) > 1:
        raise InputError(f"{folder} holds several data sets, {' and '.join(sorted(sets))}: name a folder with one.")
    missing = [key for key in ("train-images", "train-labels", "test-images", "test-labels") if key not in found]
    if missing:
        raise InputError(
            f"{folder} lacks the IDX files of {', '.join(missing)}: "
            "names such as train-images-idx3-ubyte or t10k-labels-idx1-ubyte.gz are looked for."
        )
    return found


def read_folder(folder: Path, *, name: str, classes: tuple[str, ...] | None = None) -> Dataset:
    """Read and check a folder of IDX files.

    Args:
        classes: names of the classes; the label numbers when not given.

    Raises:
        InputError: a file is broken or they do not fit together; the text names the file.
    """
    files = find_idx(folder)
    arrays = {key: read_idx(path, 3 if key.endswith("images") else 1) for key, path in files.items()}
    if len(np.unique(arrays["train-labels"])) < 2:
        raise InputError(f"{files['train-labels']} has a single class: there is nothing to tell apart.")
    if classes is None:
        classes = tuple(str(label) for label in range(int(arrays["train-labels"].max()) + 1))
    for split in ("train", "test"):
        images, labels = arrays[f"{split}-images"], arrays[f"{split}-labels"]
        if len(images) != len(labels):
            raise InputError(
                f"{files[f'{split}-labels']} has {len(labels):,} labels, "
                f"but {files[f'{split}-images'].name} has {len(images):,} images."
            )
        if (largest := int(labels.max())) >= len(classes):
            raise InputError(
                f"{files[f'{split}-labels']} has the label {largest}, but there are {len(classes)} classes "
                f"(0 to {len(classes) - 1})."
            )
        if images.shape[1:] != arrays["train-images"].shape[1:]:
            raise InputError(
                f"{files[f'{split}-images']} has images of {images.shape[1]} x {images.shape[2]} px, "
                f"but {files['train-images'].name} of {' x '.join(map(str, arrays['train-images'].shape[1:]))}."
            )
    train, test = (
        ImageSet(arrays[f"{split}-images"], arrays[f"{split}-labels"].astype(np.int64), classes)
        for split in ("train", "test")
    )
    return Dataset(name, str(folder), train, test)


# --- Data sets by name ---------------------------------------------------------------------------------------------


def load(dataset: str, root: Path) -> Dataset:
    """Load a data set by name, or a folder of IDX files, and download it where it is not on disk yet.

    Raises:
        InputError: unknown name, no network, or broken files.
    """
    if dataset in SOURCES:
        return SOURCES[dataset](root)
    folder = Path(dataset).expanduser()
    if folder.is_dir():
        return read_folder(folder, name=registered_name(folder))
    near = difflib.get_close_matches(dataset, SOURCES, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(SOURCES)}, or a folder of IDX files."
    raise InputError(f"There is no data set and no folder '{dataset}': {hint}")


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
    return _torchvision("mnist", "MNIST", root, DIGITS)


def fashion_mnist(root: Path) -> Dataset:
    from torchvision.datasets import FashionMNIST

    return _torchvision("fashion-mnist", "FashionMNIST", root, tuple(FashionMNIST.classes))


def kmnist(root: Path) -> Dataset:
    from torchvision.datasets import KMNIST

    return _torchvision("kmnist", "KMNIST", root, tuple(KMNIST.classes))


def emnist_digits(root: Path) -> Dataset:
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

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        try:
            with impatient_sockets():
                getattr(torchvision.datasets, loader)(temporary, download=True, **options)
        except (OSError, RuntimeError) as error:
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


# --- Splitting -----------------------------------------------------------------------------------------------------


def stratified_split(targets: np.ndarray, *, held_out: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into kept and held out, each class in proportion, both in ascending order.

    Raises:
        InputError: too few images to give every class a place on both sides.
    """
    from sklearn.model_selection import train_test_split

    try:
        kept, out = train_test_split(np.arange(len(targets)), test_size=held_out, random_state=seed, stratify=targets)
    except ValueError as error:
        raise InputError(
            f"{held_out:,} of {len(targets):,} images cannot be held out with every class on both sides ({error}); "
            "change val_size or limit."
        ) from error
    return np.sort(kept), np.sort(out)


def default_val_size(dataset: Dataset) -> int:
    """A twelfth of the training file: 5,000 of MNIST's 60,000."""
    return len(dataset.train) // 12


def split(dataset: Dataset, *, val_size: int, limit: int) -> Splits:
    """Hold out `val_size` validation images and keep `limit` training images (0: all), each class in proportion.

    The same images for every seed and architecture, so that all are chosen by the same measure; validation is drawn
    first, so that it is the same whatever the limit.
    """
    kept, val = stratified_split(dataset.train.targets, held_out=val_size, seed=SPLIT_SEED)
    if limit and limit < len(kept):
        _, chosen = stratified_split(dataset.train.targets[kept], held_out=limit, seed=SPLIT_SEED)
        kept = kept[chosen]
    return Splits(dataset.train.subset(kept), dataset.train.subset(val), dataset.test)


# --- Manifest ------------------------------------------------------------------------------------------------------


def manifest(dataset: Dataset) -> dict:
    """What there is to know of a data set before training on it, as plain JSON."""
    seen = {image.tobytes() for image in dataset.train.images}
    return {
        "name": dataset.name,
        "source": dataset.source,
        "sha256": dataset.sha256,
        "classes": list(dataset.classes),
        "test_images_also_in_train": sum(image.tobytes() in seen for image in dataset.test.images),
        "train": _describe(dataset.train),
        "test": _describe(dataset.test),
    }


def _describe(part: ImageSet) -> dict:
    counts = np.bincount(part.targets, minlength=len(part.classes))
    return {
        "images": len(part),
        "height": part.images.shape[1],
        "width": part.images.shape[2],
        "mean": round(float(part.images.mean() / 255), 4),
        "std": round(float(part.images.std() / 255), 4),
        "images_per_class": dict(zip(part.classes, counts.tolist(), strict=True)),
        "absent_classes": [name for name, count in zip(part.classes, counts, strict=True) if not count],
        "sha256": part.sha256,
    }
