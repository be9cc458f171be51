"""Folders of IDX files, as MNIST, QMNIST and EMNIST come, as Kaggle packs them and as torchvision keeps them."""

import json
import re
import tempfile
from pathlib import Path

import numpy as np

from pipeline.data import additions, idx
from pipeline.data.forms.fitting import Fitting
from pipeline.data.forms.parts import SPLITS, Part, Parts, files_below
from pipeline.data.images import Dataset
from pipeline.errors import InputError, first_line
from pipeline.files import make_folder

FILES = ("train-images", "train-labels", "test-images", "test-labels")
NAME = re.compile(
    rf"(?P<prefix>.*[-_.])?(?P<split>{'|'.join(SPLITS)})[-_.](?P<kind>images|labels)([-_.](idx\d?|u?byte|int))+(\.gz)?",
    re.IGNORECASE,
)
# Their images are transposed, an old quirk of theirs.
TRANSPOSED = "emnist"
# Beside the files: names of the classes, as `prepare` and the playground write them.
DESCRIPTIONS = ("manifest.json", "corrections.json")


def find(path: Path) -> dict[str, Path]:
    """The IDX files of a data set in any of the usual namings, by FILES; none where there are none.

    `train-images-idx3-ubyte`, `train-images.idx3-ubyte`, `t10k-` or `test-` for the test files, plain or `.gz`, in
    small letters or capitals, with a prefix such as `emnist-digits-` or none, also inside a folder of the same name as
    in the Kaggle archive, and in folders within the folder.

    Raises:
        InputError: some of the files are missing, several data sets lie in the folder, or it may not be read.
    """
    found: dict[str, Path] = {}
    sets = set()
    # Plain files sort before their compressed twins and win over them.
    for file in sorted(files_below(path), key=lambda file: (file.suffix.lower() == ".gz", file)):
        if match := NAME.fullmatch(file.name):
            inside_its_own_name = file.parent.name == re.sub(r"\.gz$", "", file.name, flags=re.IGNORECASE)
            home = file.parent.parent if inside_its_own_name else file.parent
            sets.add(str(home / f"{(match['prefix'] or '').lower()}*"))
            found.setdefault(f"{SPLITS[match['split'].lower()]}-{match['kind'].lower()}", file)
    if len(sets) > 1:
        raise InputError(f"{path} holds several data sets, {' and '.join(sorted(sets))}: name a folder with one.")
    missing = [key for key in FILES if key not in found]
    if found and missing:
        raise InputError(
            f"{path} lacks the IDX files of {', '.join(missing)}: "
            "names such as train-images-idx3-ubyte or t10k-labels-idx1-ubyte.gz are looked for."
        )
    return found


def read(path: Path, files: dict[str, Path], fitting: Fitting) -> Parts:
    """Read the files that `find` found, with the training images that were added to their folder.

    Raises:
        InputError: a file is broken or they do not fit together; the text names the file.
    """
    arrays = {key: idx.read(file, 3 if key.endswith("images") else 1) for key, file in files.items()}
    for split in ("train", "test"):
        images, labels = arrays[f"{split}-images"], arrays[f"{split}-labels"]
        if len(images) != len(labels):
            raise InputError(
                f"{files[f'{split}-labels']} has {len(labels):,} labels, "
                f"but {files[f'{split}-images'].name} has {len(images):,} images."
            )
    if files["train-images"].name.lower().startswith(TRANSPOSED):
        for key in ("train-images", "test-images"):
            arrays[key] = np.ascontiguousarray(arrays[key].transpose(0, 2, 1))
    images, labels = additions.read(path, arrays["train-images"].shape[1:])
    # Joining copies all images, which a folder without additions is spared.
    if len(labels):
        arrays["train-images"] = np.concatenate([arrays["train-images"], images])
        arrays["train-labels"] = np.concatenate([arrays["train-labels"].astype(np.int64), labels])
    train, test = (
        Part(
            fitting.arrays(arrays[f"{split}-images"], str(files[f"{split}-images"])),
            arrays[f"{split}-labels"].astype(np.int64),
            str(files[f"{split}-labels"]),
        )
        for split in ("train", "test")
    )
    return Parts(train, test, names_beside(files["train-labels"]))


def check_free(folder: Path) -> None:
    """Refuse to write where something is.

    Raises:
        InputError: it is there already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already: name a new folder for the output.")


def write(folder: Path, dataset: Dataset, description: str) -> None:
    """Write a data set as a folder of IDX files, which appears whole or not at all, with its manifest."""
    make_folder(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        whole = Path(temporary, "whole")
        whole.mkdir()
        for prefix, part in (("train", dataset.train), ("t10k", dataset.test)):
            idx.write(whole / f"{prefix}-images-idx3-ubyte", part.images)
            idx.write(whole / f"{prefix}-labels-idx1-ubyte", part.targets)
        (whole / DESCRIPTIONS[0]).write_text(description)
        # An empty folder is replaced, one that was filled meanwhile is not.
        whole.rename(folder)


def names_beside(labels: Path) -> dict[int, str] | None:
    """Names of the labels from EMNIST's mapping file beside them, or from what this project wrote there."""
    mapping = labels.with_name(f"{re.split('-(?:train|test)-', labels.name)[0]}-mapping.txt")
    try:
        if mapping.is_file():
            # A label a line with the characters it stands for, the usual one first.
            rows = [[int(number) for number in line.split()] for line in mapping.read_text().splitlines() if line]
            return {label: chr(character) for label, character, *_ in rows}
        for description in (path for name in DESCRIPTIONS if (path := labels.with_name(name)).is_file()):
            told = json.loads(description.read_text())
            # Other programs have manifests, too.
            if isinstance(told, dict) and "classes" in told:
                return dict(enumerate(map(str, told["classes"])))
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InputError(f"The names of the classes beside {labels} cannot be read: {first_line(error)}.") from error
    return None
