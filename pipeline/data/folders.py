"""Folders of IDX files: finding the four files of a data set, reading and checking them, and images added to them."""

import re
from pathlib import Path

import numpy as np

from pipeline.data import additions
from pipeline.data.idx import read
from pipeline.data.images import Dataset, ImageSet
from pipeline.errors import InputError


def find_idx(folder: Path) -> dict[str, Path]:
    """Find the four files of an IDX data set in any of the usual namings.

    `train-images-idx3-ubyte`, `train-images.idx3-ubyte`, `t10k-` or `test-` for the test files, plain or `.gz`, with a
    prefix such as `emnist-digits-` or none, also inside a folder of the same name as in the Kaggle archive.

    Returns:
        paths under the keys train-images, train-labels, test-images and test-labels.

    Raises:
        InputError: a file is missing, several data sets lie in the folder, or it may not be read.
    """
    try:
        # What a folder holds is silently nothing to `glob` where it may not be read.
        any(path.exists() for path in folder.iterdir())
    except PermissionError as error:
        raise InputError(f"{folder} may not be read by this user: change its permissions.") from error
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
    """Read and check a folder of IDX files, with the training images that were added to it.

    Args:
        classes: names of the classes; the label numbers when not given.

    Raises:
        InputError: a file is broken or they do not fit together; the text names the file.
    """
    files = find_idx(folder)
    arrays = {key: read(path, 3 if key.endswith("images") else 1) for key, path in files.items()}
    if len(np.unique(arrays["train-labels"])) < 2:
        raise InputError(f"{files['train-labels']} has a single class: there is nothing to tell apart.")
    for split in ("train", "test"):
        images, labels = arrays[f"{split}-images"], arrays[f"{split}-labels"]
        if len(images) != len(labels):
            raise InputError(
                f"{files[f'{split}-labels']} has {len(labels):,} labels, "
                f"but {files[f'{split}-images'].name} has {len(images):,} images."
            )
    images, labels = additions.read(folder, arrays["train-images"].shape[1:])
    # Joining copies all images, which a folder without additions is spared.
    if len(labels):
        arrays["train-images"] = np.concatenate([arrays["train-images"], images])
        arrays["train-labels"] = np.concatenate([arrays["train-labels"], labels])
    if classes is None:
        classes = tuple(str(label) for label in range(int(arrays["train-labels"].max()) + 1))
    for split in ("train", "test"):
        images, labels = arrays[f"{split}-images"], arrays[f"{split}-labels"]
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
