"""Detection samples: boxes tight, inside and apart, scenes that are the same for everyone."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.data import scenes
from pipeline.data.images import ImageSet
from pipeline.data.scenes import INK, NOTHING, SceneStyle


def digits(count: int = 60, side: int = 28, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Images with a bright rectangle of random size and place each, and labels."""
    random = np.random.default_rng(seed)
    images = np.zeros((count, side, side), np.uint8)
    for image in images:
        (top, left), (height, width) = random.integers(0, side // 2, 2), random.integers(3, side // 2, 2)
        image[top : top + height, left : left + width] = 255
    return torch.from_numpy(images), torch.arange(count) % 10


def compose(images, labels, style, *, count=50, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return scenes.compose(images, labels, style, count=count, generator=generator)


@given(arrays(np.uint8, st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 12))))
def test_a_box_holds_all_ink_and_ink_touches_each_of_its_sides(images):
    for image, (x1, y1, x2, y2) in zip(images, scenes.ink_boxes(torch.from_numpy(images)).tolist(), strict=True):
        ink = image >= INK
        assert 0 <= x1 <= x2 <= image.shape[1] and 0 <= y1 <= y2 <= image.shape[0]
        inside = ink[y1:y2, x1:x2]
        assert inside.sum() == ink.sum()
        if ink.any():
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        else:
            assert (x1, y1, x2, y2) == (0, 0, 0, 0)


boxes_of_pixels = st.tuples(st.integers(0, 20), st.integers(0, 20), st.integers(1, 10), st.integers(1, 10)).map(
    lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])
)


@given(boxes_of_pixels, boxes_of_pixels)
def test_covered_counts_pixels(one, other):
    def pixels(box):
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    expected = len(pixels(one) & pixels(other)) / min(len(pixels(one)), len(pixels(other)))
    assert scenes.covered(torch.tensor([one]), torch.tensor([other])).item() == pytest.approx(expected)
    assert scenes.areas(torch.tensor(one)).item() == len(pixels(one))


@settings(max_examples=40)
@given(
    canvas=st.integers(32, 120),
    most=st.integers(1, 12),
    largest=st.integers(8, 28),
    overlap=st.sampled_from([0.0, 0.1, 0.5]),
    seed=st.integers(0, 1000),
)
def test_boxes_are_inside_have_an_area_and_keep_the_bound_of_overlap(canvas, most, largest, overlap, seed):
    style = SceneStyle(canvas=canvas, digits=(1, most), sizes=(6, largest), overlap=overlap)
    canvases, targets = compose(*digits(), style, count=20, seed=seed)
    assert canvases.shape == (20, canvas, canvas) and targets.shape == (20, most, 5)
    assert canvases.min() >= 0 and canvases.max() <= 255
    for canvas_image, rows in zip(canvases, targets, strict=True):
        boxes = rows[rows[:, 4] != NOTHING][:, :4]
        assert len(boxes) >= 1, "a first digit always has a place"
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= canvas).all() and (scenes.areas(boxes) > 0).all()
        assert (boxes[:, 2:] - boxes[:, :2]).max() <= largest + scenes.EDGE
        shares = scenes.covered(boxes, boxes).fill_diagonal_(0)
        assert shares.max() <= overlap
        for x1, y1, x2, y2 in boxes.tolist():
            inside = canvas_image[y1:y2, x1:x2] >= INK
            assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()
        empty = rows[rows[:, 4] == NOTHING]
        assert not empty[:, :4].any()


def test_the_same_seed_gives_the_same_scenes_and_another_seed_others():
    images, labels = digits()
    style = SceneStyle(clutter=3, noise=0.05)
    first, again, other = (compose(images, labels, style, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0]) and torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_clutter_and_noise_change_the_picture_and_not_the_truth():
    images, labels = digits()
    plain, truth = compose(images, labels, SceneStyle())
    for style in (SceneStyle(clutter=5), SceneStyle(noise=0.1)):
        changed, boxes = compose(images, labels, style)
        assert torch.equal(boxes, truth) and not torch.equal(changed, plain)
        assert changed.min() >= 0 and changed.max() <= 255


def test_every_image_is_used_before_any_is_used_again():
    images, _ = digits(count=30)
    _, targets = compose(images, torch.arange(30), SceneStyle(canvas=200, digits=(3, 3)), count=10)
    assert sorted(targets[:, :, 4].flatten().tolist()) == list(range(30))


@pytest.mark.parametrize(("many", "canvas"), [(1, 64), (40, 256)])
def test_one_digit_and_forty(many, canvas):
    _, targets = compose(*digits(), SceneStyle(canvas=canvas, digits=(many, many)), count=8)
    assert ((targets[:, :, 4] != NOTHING).sum(1) >= 0.9 * many).all()


def test_blank_images_are_samples_without_a_box():
    blank = torch.zeros(5, 28, 28, dtype=torch.uint8)
    assert (scenes.singles(blank, torch.arange(5))[:, 0, 4] == NOTHING).all()
    canvases, targets = compose(blank, torch.arange(5), SceneStyle(), count=3)
    assert not canvases.any() and (targets[:, :, 4] == NOTHING).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (8, 8), (200, 140), (400, 30)])
def test_images_of_any_size_fill_their_boxes(shape):
    images = torch.zeros(6, *shape, dtype=torch.uint8)
    height, width = shape
    images[:, height // 4 : height - height // 4, width // 4 : width - width // 4] = 200
    _, targets = compose(images, torch.arange(6), SceneStyle(digits=(1, 1)), count=6)
    (x1, y1, x2, y2, _) = targets[:, 0].T
    longer = torch.maximum(x2 - x1, y2 - y1)
    assert ((longer >= 12) & (longer <= 36)).all()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"digits": (0, 3)}, "no range such as"),
        ({"digits": (5, 2)}, "no range such as"),
        ({"digits": (3,)}, "no range of whole numbers"),
        ({"digits": (1.5, 3)}, "no range of whole numbers"),
        ({"sizes": ("a", "b")}, "no range of whole numbers"),
        ({"sizes": (14, 100)}, "no range from 4 px to 4 px less than the canvas 64"),
        ({"overlap": 1.5}, "shares from 0 to 1"),
        ({"clutter": -1}, "number of pieces"),
    ],
)
def test_scenes_that_cannot_be_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        SceneStyle(**wrong)


@pytest.mark.parametrize("box", [(-1, 0, 5, 5), (0, 0, 5, 33), (5, 0, 5, 5), (0, 9, 5, 3)])
def test_boxes_outside_or_without_area_are_refused(box):
    nothing = [0, 0, 0, 0, NOTHING]
    scenes.check_boxes(torch.tensor([[[0, 0, 32, 32, 3], nothing]]), side=32)
    with pytest.raises(ValueError, match="is no box within 32 x 32 px"):
        scenes.check_boxes(torch.tensor([[nothing, [*box, 3]]]), side=32)


def test_large_scenes_are_made_a_few_at_a_time_of_different_images(monkeypatch):
    images, _ = digits(count=60)
    part = ImageSet(images.numpy(), np.arange(60), tuple(map(str, range(60))))
    style = SceneStyle(canvas=128, digits=(3, 3))
    whole = scenes.scene_set(part, style, count=20)
    monkeypatch.setattr(scenes, "PIXELS_AT_ONCE", 3 * 128**2)
    pieces = scenes.scene_set(part, style, count=20)
    for made in (whole, pieces):
        assert made.images.shape == (20, 128, 128) and made.images.dtype == np.uint8
        assert sorted(made.targets[:, :, 4].flatten().tolist()) == list(range(60))
