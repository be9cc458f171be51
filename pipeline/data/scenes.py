"""Samples for detection, made from images of single digits: the image itself, or a canvas with several digits on it.

Either comes with its boxes as int64 (N, D, 5): x1, y1, x2, y2 in pixels and the class, for up to D objects an image;
unused places hold the class NOTHING. A box is tight around the digit's ink, so x2 and y2 lie just outside it.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor

from pipeline.data.images import ImageSet

# Of 0 to 255: fainter pixels are the edge of a stroke or noise, and no ink.
INK = 64
NOTHING = -1
PLACES_TRIED = 24
SCENE_SEED = 0
# Scenes are made a few at a time where they are large.
PIXELS_AT_ONCE = 1 << 22
# How much wider than asked for a digit's ink may come out, when enlarging blurs its edge.
EDGE = 4


@dataclass(frozen=True)
class SceneStyle:
    """What scenes look like.

    Attributes:
        canvas: side in pixels.
        digits: fewest and most digits on it.
        sizes: least and largest longer side of a digit's box in pixels, give or take its blurred edge.
        overlap: largest share of the smaller of two boxes that the other may cover.
        clutter: pieces of strokes strewn in between.
        noise: standard deviation of what is added to every pixel, as a share of white.

    Raises:
        ValueError: such scenes cannot be.
    """

    canvas: int = 64
    digits: tuple[int, int] = (1, 5)
    sizes: tuple[int, int] = (14, 32)
    overlap: float = 0.1
    clutter: int = 0
    noise: float = 0.0

    def __post_init__(self) -> None:
        for name, pair in (("digits", self.digits), ("sizes", self.sizes)):
            if len(pair) != 2 or not all(isinstance(value, int) for value in pair):
                raise ValueError(f"{name} {pair} is no range of whole numbers such as (1, 5)")
        if not 1 <= self.digits[0] <= self.digits[1]:
            raise ValueError(f"digits {self.digits} is no range such as (1, 5)")
        if not 4 <= self.sizes[0] <= self.sizes[1] <= self.canvas - EDGE:
            raise ValueError(
                f"sizes {self.sizes} is no range from 4 px to {EDGE} px less than the canvas {self.canvas}"
            )
        if not (0 <= self.overlap <= 1 and self.clutter >= 0 and 0 <= self.noise <= 1):
            raise ValueError("overlap and noise are shares from 0 to 1, clutter is a number of pieces")


def ink_boxes(images: Tensor) -> Tensor:
    """The smallest box around the ink of each image, int64 (N, 4); zeros where there is none.

    Args:
        images: (N, H, W) with values 0 to 255.
    """
    ink = images >= INK
    columns, rows = ink.any(1), ink.any(2)

    def ends(line: Tensor) -> tuple[Tensor, Tensor]:
        return line.int().argmax(1), line.shape[1] - line.flip(1).int().argmax(1)

    (left, right), (top, bottom) = ends(columns), ends(rows)
    return torch.stack([left, top, right, bottom], 1) * rows.any(1)[:, None]


def singles(images: Tensor, labels: Tensor) -> Tensor:
    """Boxes (N, 1, 5) of images with one digit each; a blank image has none."""
    boxes = ink_boxes(images)
    return torch.cat([boxes, labels.where(areas(boxes) > 0, NOTHING)[:, None]], 1)[:, None]


def compose(
    images: Tensor, labels: Tensor, style: SceneStyle, *, count: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Put digits at random places and sizes on canvases, each image once before any is used again.

    A digit for which there is no place without too much overlap is left out.

    Args:
        images: (N, H, W) with values 0 to 255.
        labels: int64 (N,).
        count: number of scenes.
        generator: source of all chance, on the device of the images.

    Returns:
        floating (count, canvas, canvas) with values 0 to 255, in the precision of the images if they are floating; and
        boxes (count, most digits, 5).
    """
    device, most = images.device, style.digits[1]
    images = images if images.is_floating_point() else images.float()

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    wanted = torch.randint(style.digits[0], most + 1, (count,), generator=generator, device=device)
    places = torch.arange(most, device=device)
    chosen = ((wanted.cumsum(0) - wanted)[:, None] + places) % len(images)
    low, high = style.sizes
    patches = _scaled(images[chosen.flatten()], low + (high - low) * uniform(count * most), side=high + EDGE)
    tight = ink_boxes(patches).view(count, most, 4)
    patches = patches.view(count, most, *patches.shape[1:])

    boxes = torch.zeros_like(tight)
    present = (places < wanted[:, None]) & (areas(tight) > 0)
    for place in range(most):
        size = tight[:, place, 2:] - tight[:, place, :2]
        free = (style.canvas - size)[:, None]
        corner = (uniform(count, PLACES_TRIED, 2) * (free + 1)).long().minimum(free)
        tried = torch.cat([corner, corner + size[:, None]], 2)
        fits = (covered(tried, boxes[:, :place]) <= style.overlap).all(2) & (free >= 0).all(2)
        present[:, place] &= fits.any(1)
        first = tried[torch.arange(count, device=device), fits.int().argmax(1)]
        boxes[:, place] = first * present[:, place, None]

    canvases = torch.zeros(count, style.canvas, style.canvas, device=device, dtype=images.dtype)
    for place in range(most):
        offset = boxes[:, place, :2] - tight[:, place, :2]
        _paste(canvases, patches[:, place] * present[:, place, None, None], offset)
    for _ in range(style.clutter):
        piece = patches[:, 0].roll(1, 0)[:, : high // 2, : high // 2] * (0.4 + 0.6 * uniform(count, 1, 1))
        _paste(canvases, piece, (uniform(count, 2) * style.canvas).long() - high // 4)
    if style.noise:
        noise = torch.randn(canvases.shape, generator=generator, device=device)
        canvases += noise * style.noise * 255
    return canvases.clamp_(0, 255), torch.cat([boxes, labels[chosen].where(present, NOTHING)[:, :, None]], 2)


def scene_set(part: ImageSet, style: SceneStyle, *, count: int) -> ImageSet:
    """Scenes of these images that are the same whenever they are made, as uint8 (count, canvas, canvas).

    Raises:
        ValueError: a box is outside its canvas or without area.
    """
    generator = torch.Generator().manual_seed(SCENE_SEED)
    order = torch.randperm(len(part), generator=generator)
    at_once = max(1, PIXELS_AT_ONCE // style.canvas**2)
    pieces = []
    for start in range(0, count, at_once):
        several = min(at_once, count - start)
        chosen = order.roll(-start * style.digits[1])[: several * style.digits[1]].numpy()
        # In double precision, so that rounding to whole values gives the same pixels on every machine.
        images, labels = torch.from_numpy(part.images[chosen]).double(), torch.from_numpy(part.targets[chosen])
        canvases, boxes = compose(images, labels, style, count=several, generator=generator)
        check_boxes(boxes, side=style.canvas)
        pieces.append((canvases.round().byte().numpy(), boxes.numpy()))
    pixels, targets = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
    return ImageSet(pixels, targets, part.classes)


def check_boxes(boxes: Tensor, *, side: int) -> None:
    """Refuse boxes (..., 5) that reach out of a square of this side or have no area.

    Raises:
        ValueError: the first such box is named.
    """
    there = boxes[boxes[..., 4] != NOTHING]
    wrong = (there[:, :4] < 0).any(1) | (there[:, :4] > side).any(1) | (there[:, 2:4] <= there[:, :2]).any(1)
    if wrong.any():
        raise ValueError(f"the box {there[wrong][0, :4].tolist()} is no box within {side} x {side} px")


def areas(boxes: Tensor) -> Tensor:
    """Areas of boxes (..., 4)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def covered(boxes: Tensor, others: Tensor) -> Tensor:
    """Share of the smaller of two boxes that both cover: (..., A, 4) and (..., B, 4) to (..., A, B)."""
    one, other = boxes[..., :, None, :], others[..., None, :, :]
    sides = (one[..., 2:].minimum(other[..., 2:]) - one[..., :2].maximum(other[..., :2])).clamp(min=0)
    return sides.prod(-1) / areas(one).minimum(areas(other)).clamp(min=1)


def _scaled(images: Tensor, sizes: Tensor, *, side: int) -> Tensor:
    """Each image's ink scaled to a longer side of `sizes` (N,), in the middle of (N, side, side)."""
    largest = max(images.shape[1:])
    images = images[:, None]
    if largest > 2 * side:
        # Sampling alone would skip over pixels.
        factor = 2 * side / largest
        images = torch.nn.functional.interpolate(images, scale_factor=factor, mode="bilinear", antialias=True)
    height, width = images.shape[2:]
    boxes = ink_boxes(images[:, 0]).to(images.dtype)
    scale = sizes / (boxes[:, 2:] - boxes[:, :2]).amax(1).clamp(min=1)
    zero = torch.zeros_like(scale)
    # The coordinates of grid_sample run from -1 to 1 over the image.
    theta = [
        *(side / (scale * width), zero, (boxes[:, 0] + boxes[:, 2]) / width - 1),
        *(zero, side / (scale * height), (boxes[:, 1] + boxes[:, 3]) / height - 1),
    ]
    grid = torch.nn.functional.affine_grid(
        torch.stack(theta, 1).view(-1, 2, 3), [len(images), 1, side, side], align_corners=False
    )
    return torch.nn.functional.grid_sample(images, grid, align_corners=False)[:, 0]


def _paste(canvases: Tensor, patches: Tensor, offsets: Tensor) -> None:
    """Lay a patch (S, P, P) over each canvas (S, C, C) at its offset (S, 2), the lighter pixel winning."""
    pixels = torch.arange(canvases.shape[1], device=canvases.device)
    columns, rows = pixels - offsets[:, :1], pixels - offsets[:, 1:]
    last = patches.shape[1] - 1
    inside = ((rows >= 0) & (rows <= last))[:, :, None] & ((columns >= 0) & (columns <= last))[:, None, :]
    scene = torch.arange(len(canvases), device=canvases.device)[:, None, None]
    moved = patches[scene, rows.clamp(0, last)[:, :, None], columns.clamp(0, last)[:, None, :]]
    torch.maximum(canvases, moved * inside, out=canvases)
