"""Corruptions: the same for everyone, and what their names say."""

import numpy as np
import pytest

from pipeline.data import corruptions
from pipeline.data.images import ImageSet

SQUARE = np.zeros((300, 28, 28), np.uint8)
SQUARE[:, 8:20, 8:20] = 200
TEST = ImageSet(SQUARE, np.arange(300) % 10, tuple("0123456789"))


def test_every_corruption_changes_the_same_images_in_the_same_way_every_time():
    first, again = (list(corruptions.corrupted(TEST)) for _ in range(2))
    names = {(name, severity) for name, severity, _ in first}
    assert names == {(name, severity) for name in corruptions.CORRUPTIONS for severity in corruptions.SEVERITIES}
    clean = TEST.subset(corruptions.chosen(300))
    for (name, severity, worse), (*_, same) in zip(first, again, strict=True):
        assert worse.images.dtype == np.uint8 and worse.images.shape == (corruptions.IMAGES, 28, 28)
        assert np.array_equal(worse.images, same.images), name
        assert np.array_equal(worse.targets, clean.targets)
        assert (worse.images != clean.images).any(), (name, severity)


@pytest.mark.parametrize("name", corruptions.CORRUPTIONS)
def test_a_higher_severity_is_further_from_the_image(name):
    clean = TEST.subset(corruptions.chosen(300)).images.astype(float)
    distances = [
        np.abs(worse.images - clean).mean() for found, _, worse in corruptions.corrupted(TEST) if found == name
    ]
    assert distances == sorted(distances) and distances[0] > 0


def test_small_test_sets_are_used_whole():
    assert np.array_equal(corruptions.chosen(40), np.arange(40))


def test_a_turn_is_by_the_angle_and_a_move_by_the_pixels():
    generator = np.random.default_rng(0)
    spot = np.zeros((8, 29, 29), np.float32)
    spot[:, 14, 24] = 255
    rows, columns = (np.array(axis) for axis in np.nonzero(corruptions.rotate(spot, 45, generator) > 60)[1:])
    # Ten pixels from the centre, it ends seven above or below it.
    assert set(np.abs(rows - 14)) <= {6, 7, 8} and set(columns - 14) <= {6, 7, 8}
    moved = corruptions.translate(spot, 0.1, generator)
    assert {tuple(place) for place in np.argwhere(moved > 0)[:, 1:]} <= {(11, 21), (11, 27), (17, 21), (17, 27)}


def test_a_corruption_is_the_same_whichever_others_there_are(monkeypatch):
    name = list(corruptions.CORRUPTIONS)[-1]
    before = [worse.images for found, _, worse in corruptions.corrupted(TEST) if found == name]
    monkeypatch.setattr(corruptions, "CORRUPTIONS", {name: corruptions.CORRUPTIONS[name]})
    for (_, _, worse), images in zip(corruptions.corrupted(TEST), before, strict=True):
        assert np.array_equal(worse.images, images)
