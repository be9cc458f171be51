"""Augmentation and preprocessing: seeded, in range, and nothing where nothing is asked."""

import pytest
import torch

from pipeline.data.augmentations import augment
from pipeline.registry.bundled.preprocess import Preprocess

IMAGES = torch.zeros(64, 28, 28, dtype=torch.uint8)
IMAGES[:, 8:20, 10:18] = 255


def test_none_changes_nothing():
    assert augment(IMAGES, "none", torch.Generator()) is IMAGES


def test_affine_moves_each_image_by_its_own_seeded_amount():
    first, second = (augment(IMAGES, "affine", torch.Generator().manual_seed(seed)) for seed in (1, 1))
    assert torch.equal(first, second)
    assert first.shape == IMAGES.shape and first.min() >= 0 and first.max() <= 255.01
    assert len({image.numpy().tobytes() for image in first}) == 64
    # The digit stays whole: its ink changes by no more than the scaling allows.
    ink = first.sum((1, 2)) / IMAGES.float().sum((1, 2))
    assert ink.min() > 0.7 and ink.max() < 1.4


def test_shift_moves_by_whole_pixels_at_most_two_of_28_each_way():
    first, second = (augment(IMAGES, "shift", torch.Generator().manual_seed(0)) for _ in range(2))
    assert torch.equal(first, second) and first.dtype == torch.uint8
    assert torch.equal(first.sum((1, 2)), IMAGES.sum((1, 2)))
    tops, lefts = first.any(2).int().argmax(1) - 8, first.any(1).int().argmax(1) - 10
    assert set(tops.tolist()) == set(lefts.tolist()) == {-2, -1, 0, 1, 2}
    for image, original, top, left in zip(first, IMAGES, tops.tolist(), lefts.tolist(), strict=True):
        assert torch.equal(image, original.roll((top, left), (0, 1)))


def test_preprocess_normalises_repeats_and_resizes():
    same = Preprocess(image_size=28, in_channels=1, mean=(0.5,), std=(0.25,))(IMAGES)
    assert torch.allclose(same[:, 0], IMAGES / 255 / 0.25 - 2, atol=1e-6)
    colour = Preprocess(image_size=64, in_channels=3, mean=(0.0, 0.1, 0.2), std=(1.0, 1.0, 1.0))(IMAGES)
    assert colour.shape == (64, 3, 64, 64)
    assert torch.allclose(colour[:, 0], colour[:, 2] + 0.2, atol=1e-6)
    assert colour[:, 0].mean().item() == pytest.approx(IMAGES.float().mean().item() / 255, rel=0.02)
