"""The data set that a command works on: its options, and loading it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.options import auto, options, switch

if TYPE_CHECKING:
    import numpy as np

    from pipeline.data.images import Dataset


DATASETS = (
    "digits, mnist, fashion-mnist, kmnist, qmnist, usps, svhn, emnist-digits, -letters, -balanced, -byclass, "
    "or a folder or file: class folders of pictures, .csv, .parquet, .npz, IDX"
)


def dataset_options(default: str) -> Callable:
    """Options that say which images a command takes and what becomes of them, as arguments of `load_dataset`."""
    return options(
        click.option("--dataset", default=default, show_default=True, help=f"{DATASETS}."),
        auto(
            "--side",
            click.IntRange(8, 1024),
            "Side in pixels of the square that images are fitted to; auto: as they are, or 28 where pictures differ in "
            "size or are larger than 128.",
        ),
        switch("--frame", "Set the ink of each image into its square as predict sets that of a photograph."),
    )


def load_dataset(dataset: str, root: Path, *, side: int | None, frame: bool, name: str = "") -> "Dataset":
    """Load what the options say.

    Args:
        name: what it is to be called, by default as it is.

    Raises:
        InputError: unknown name, no network, or broken files.
    """
    from pipeline.data import sources
    from pipeline.data.forms.fitting import Fitting

    return sources.load(dataset, root, Fitting(side, frame_digit if frame else None), name=name)


def frame_digit(image: "np.ndarray", side: int, name: str) -> "np.ndarray":
    """The ink of a grey image in a square, as a model is shown it by `predict`.

    Raises:
        InputError: there is no ink on it; the text begins with its name.
    """
    from pipeline.inference import digitize

    shape = (side, side)
    if digitize.is_framed(image, shape):
        return image
    return digitize.normalize_digit(digitize.segment_ink(image, name=name), shape).image
