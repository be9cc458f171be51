"""What there is to know of a data set before training on it."""

import numpy as np

from pipeline.data.images import Dataset, ImageSet

BLOCK = 1 << 20
# What differs by less, of the 255 from black to white, is no ink.
MIN_CONTRAST = 38
# So many images are named.
MAX_LISTED = 100


def describe(dataset: Dataset) -> dict:
    """What there is to know of a data set before training on it, as plain JSON."""
    return {
        "name": dataset.name,
        "source": dataset.source,
        "sha256": dataset.sha256,
        "classes": list(dataset.classes),
        "test_images_also_in_train": dataset.test_images_also_in_train,
        "notes": list(dataset.notes),
        "train": _describe(dataset.train),
        "test": _describe(dataset.test),
    }


def _describe(part: ImageSet) -> dict:
    counts = np.bincount(part.targets, minlength=len(part.classes))
    mean, std = _mean_and_std(part.images)
    return {
        "images": len(part),
        "height": part.images.shape[1],
        "width": part.images.shape[2],
        "mean": round(mean, 4),
        "std": round(std, 4),
        "images_per_class": dict(zip(part.classes, counts.tolist(), strict=True)),
        "without_ink": without_ink(part.images),
        "absent_classes": [name for name, count in zip(part.classes, counts, strict=True) if not count],
        "sha256": part.sha256,
    }


def without_ink(images: np.ndarray) -> list[int]:
    """Positions of images on which nothing stands out, at most MAX_LISTED."""
    sides = tuple(range(1, images.ndim))
    return np.flatnonzero(images.max(sides) - images.min(sides) < MIN_CONTRAST)[:MAX_LISTED].tolist()


def _mean_and_std(images: np.ndarray) -> tuple[float, float]:
    """Of all pixels, 0 black to 1 white, from how many have each of the 256 values."""
    pixels, counts = images.reshape(-1), np.zeros(256, np.int64)
    # A block at a time: numpy makes eight bytes of every pixel, to count it as to square it.
    for start in range(0, pixels.size, BLOCK):
        counts += np.bincount(pixels[start : start + BLOCK], minlength=256)
    shades = np.arange(256) / 255
    mean = np.average(shades, weights=counts)
    return float(mean), float(np.sqrt(np.average((shades - mean) ** 2, weights=counts)))
