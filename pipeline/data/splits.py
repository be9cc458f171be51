"""Validation images held out of a training file, the same for every seed and architecture."""

import numpy as np

from pipeline.data.images import Dataset, Splits
from pipeline.errors import InputError

SPLIT_SEED = 0


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
    """A twelfth of the training file: 5,000 of MNIST's 60,000; of few images at least one of each class."""
    return max(len(dataset.train) // 12, len(np.unique(dataset.train.targets)))


def check_folds(targets: np.ndarray, count: int) -> None:
    """Refuse a number of folds that these targets cannot be held out in.

    Raises:
        InputError: a class has too few images.
    """
    if count < 2:
        raise InputError("folds=1 leaves no image to train on: take at least 2, or 0 for none.")
    rarest = int(np.unique(targets, return_counts=True)[1].min())
    if rarest < count:
        raise InputError(f"{count} folds take {count} images of each class, and one has {rarest}: take fewer folds.")


def split_fold(targets: np.ndarray, fold: str) -> tuple[np.ndarray, np.ndarray]:
    """Positions kept and, for `2/5`, the second of five parts, which hold out each image once; classes in proportion.

    Raises:
        InputError: a class has too few images.
    """
    from sklearn.model_selection import StratifiedKFold

    number, count = map(int, fold.split("/"))
    check_folds(targets, count)
    parts = StratifiedKFold(count, shuffle=True, random_state=SPLIT_SEED).split(targets, targets)
    return list(parts)[number - 1]


def split(dataset: Dataset, *, val_size: int, limit: int, fold: str = "") -> Splits:
    """Hold out `val_size` validation images and keep `limit` training images (0: all), each class in proportion.

    The same images for every seed and architecture, so that all are chosen by the same measure; validation is drawn
    first, so that it is the same whatever the limit.

    Args:
        fold: `2/5` for the second of five parts as validation images, in place of `val_size` of them.
    """
    if fold:
        kept, val = split_fold(dataset.train.targets, fold)
    else:
        kept, val = stratified_split(dataset.train.targets, held_out=val_size, seed=SPLIT_SEED)
    if limit and limit < len(kept):
        _, chosen = stratified_split(dataset.train.targets[kept], held_out=limit, seed=SPLIT_SEED)
        kept = kept[chosen]
    return Splits(dataset.train.subset(kept), dataset.train.subset(val), dataset.test)
