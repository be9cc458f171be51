"""Images with labels, whole in memory: MNIST's training images are 47 MB."""

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np


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
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.targets.astype("<i8")).data)
        return digest.hexdigest()

    def subset(self, indices: np.ndarray) -> "ImageSet":
        """The images at these positions."""
        return replace(self, images=self.images[indices], targets=self.targets[indices])


@dataclass(frozen=True)
class Dataset:
    """A training file, from which validation is split off, and a test file, which is used once.

    Attributes:
        notes: what whoever uses it must know, in sentences.
    """

    name: str
    source: str
    train: ImageSet
    test: ImageSet
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.train.classes

    @cached_property
    def sha256(self) -> str:
        """Hash of the content of both files."""
        return hashlib.sha256(f"{self.train.sha256}{self.test.sha256}".encode()).hexdigest()

    @cached_property
    def test_images_also_in_train(self) -> int:
        """How many test images are training images as well, pixel by pixel."""
        # A set of the test images, which are fewer, from which those that training has are taken out.
        unseen = {image.tobytes() for image in self.test.images}
        for image in self.train.images:
            unseen.discard(image.tobytes())
        return sum(image.tobytes() not in unseen for image in self.test.images)


@dataclass(frozen=True)
class Splits:
    """What a training may see of a data set."""

    train: ImageSet
    val: ImageSet
    test: ImageSet
