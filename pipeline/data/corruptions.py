"""Test images made worse in fixed ways, so that architectures that are equally good can still be told apart.

Names and, for noise and contrast, severities are those of ImageNet-C: Hendrycks and Dietterich, "Benchmarking Neural
Network Robustness to Common Corruptions and Perturbations", ICLR 2019, arXiv:1903.12261; `translate` and `rotate` are
named as in MNIST-C: Mu and Gilmer, 2019, arXiv:1906.02337. Other severities are made for small images.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from scipy import ndimage

from pipeline.data.images import ImageSet

SEED = 0
# What is read off is a mean over all corruptions, for which so many images are enough.
IMAGES = 250
SEVERITIES = (1, 3, 5)


def translate(images: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Move by a share of the side to the left or right and up or down."""
    moves = generator.choice([-1, 1], (len(images), 2)) * np.round(share * np.array(images.shape[1:]))
    return np.stack([ndimage.shift(image, move, order=0) for image, move in zip(images, moves, strict=True)])


def rotate(images: np.ndarray, degrees: float, generator: np.random.Generator) -> np.ndarray:
    """Turn about the centre, one way or the other."""
    signs = generator.choice([-1, 1], len(images))
    turned = {sign: ndimage.rotate(images, sign * degrees, axes=(2, 1), reshape=False, order=1) for sign in (-1, 1)}
    return np.where(signs[:, None, None] > 0, turned[1], turned[-1])


def gaussian_noise(images: np.ndarray, deviation: float, generator: np.random.Generator) -> np.ndarray:
    """Add noise to every pixel."""
    return images + 255 * deviation * generator.standard_normal(images.shape)


def gaussian_blur(images: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Blur by a Gaussian whose standard deviation is a share of the side."""
    return ndimage.gaussian_filter(images, (0, *(share * side for side in images.shape[1:])))


def contrast(images: np.ndarray, factor: float, generator: np.random.Generator) -> np.ndarray:
    """Pull every pixel to the mean of its image."""
    means = images.mean((1, 2), keepdims=True)
    return means + factor * (images - means)


def occlusion(images: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    """Hide a square of a share of the side, somewhere in the image."""
    hidden = images.copy()
    size = np.round(share * np.array(images.shape[1:])).astype(int)
    corners = generator.integers(0, np.array(images.shape[1:]) - size + 1, (len(images), 2))
    for image, (top, left) in zip(hidden, corners, strict=True):
        image[top : top + size[0], left : left + size[1]] = 0
    return hidden


# What each does, and how much of it at the severities 1 to 5.
CORRUPTIONS: dict[str, tuple[Callable, tuple[float, ...]]] = {
    "translate": (translate, (0.04, 0.08, 0.12, 0.16, 0.20)),
    "rotate": (rotate, (10, 20, 30, 40, 50)),
    "gaussian_noise": (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "gaussian_blur": (gaussian_blur, (0.02, 0.035, 0.05, 0.065, 0.08)),
    "contrast": (contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "occlusion": (occlusion, (0.15, 0.25, 0.35, 0.45, 0.55)),
}


def definition() -> dict[str, Any]:
    """Everything that decides what the corrupted images are, but for the images themselves and this file's code."""
    amounts = {name: amounts for name, (_, amounts) in CORRUPTIONS.items()}
    return {"amounts": amounts, "severities": SEVERITIES, "images": IMAGES, "seed": SEED}


def chosen(count: int) -> np.ndarray:
    """Positions of the test images that are made worse, the same for every training."""
    return np.sort(np.random.default_rng(SEED).permutation(count)[:IMAGES])


def corrupted(test: ImageSet) -> Iterator[tuple[str, int, ImageSet]]:
    """Each corruption's name and severity with the chosen test images made worse by it."""
    clean = test.subset(chosen(len(test)))
    for name, (corrupt, amounts) in CORRUPTIONS.items():
        for severity in SEVERITIES:
            generator = np.random.default_rng([SEED, *name.encode(), severity])
            worse = corrupt(clean.images.astype(np.float32), amounts[severity - 1], generator)
            images = np.rint(worse).clip(0, 255).astype(np.uint8)
            yield name, severity, ImageSet(images, clean.targets, clean.classes)
