"""Augmentation and preprocessing: seeded, in range, and nothing where nothing is asked."""

import pytest
import torch

from pipeline.augment import augment
from pipeline.preprocess import Preprocess

IMAGES = torch.zeros(64, 28, 28, dtype=torch.uint8)
IMAGES[:, 8:20, 10:18] = 255


def test_none_changes_nothing():
    assert augment(IMAGES, "none", torch.Generator()) is IMAGES


@pytest.mark.parametrize("kind", ["shift", "affine"])
def test_moves_each_image_by_its_own_seeded_amount(kind):
    first, second = (augment(IMAGES, kind, torch.Generator().manual_seed(seed)) for seed in (1, 1))
    assert torch.equal(first, second)
    assert first.shape == IMAGES.shape and first.min() >= 0 and first.max() <= 255.01
    assert len({image.numpy().tobytes() for image in first}) == 64
    # The digit stays whole: its ink changes by no more than the scaling allows.
    ink = first.sum((1, 2)) / IMAGES.float().sum((1, 2))
    assert ink.min() > 0.7 and ink.max() < 1.4


def test_shift_is_at_most_two_of_28_pixels():
    rows = augment(IMAGES, "shift", torch.Generator().manual_seed(0)).sum(2)
    centre = (rows * torch.arange(28)).sum(1) / rows.sum(1)
    assert (centre - 13.5).abs().max() <= 2.01
    assert (centre - 13.5).abs().max() > 1.5


def test_preprocess_normalises_repeats_and_resizes():
    same = Preprocess(image_size=28, in_channels=1, mean=(0.5,), std=(0.25,))(IMAGES)
    assert torch.equal(same[:, 0], IMAGES / 255 / 0.25 - 2)
    colour = Preprocess(image_size=64, in_channels=3, mean=(0.0, 0.1, 0.2), std=(1.0, 1.0, 1.0))(IMAGES)
    assert colour.shape == (64, 3, 64, 64)
    assert torch.allclose(colour[:, 0], colour[:, 2] + 0.2)
    assert colour[:, 0].mean().item() == pytest.approx(IMAGES.float().mean().item() / 255, rel=0.02)
