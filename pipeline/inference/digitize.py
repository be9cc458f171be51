"""From ink to an image such as the models know: light on black, in its place.

MNIST's digits were scaled to fit a box of 20 px and set into 28 px by their centre of mass: LeCun, Bottou, Bengio,
Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE 1998.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.data.grey import read
from pipeline.inference.ink import Ink, ends, is_light, resized, segment_ink

# A picture is read, its ink is told from its paper, and is then set into a frame.
__all__ = ["Framed", "Ink", "is_framed", "is_light", "normalize_digit", "read", "segment_ink"]

# The share of the frame that the digit's longer side takes, and the digit's height in an image of several.
DIGIT_SHARE = 20 / 28
DIGIT_HEIGHT = 20
MARGIN = 4
MAX_SCENE = 256
# Strokes of MNIST are about so wide, in a frame of 28 px; a thin pen's vanish when shrunk.
STROKE = 2.4 / 28


@dataclass(frozen=True)
class Framed:
    """An image made from a picture, and where its pixels come from.

    Attributes:
        image: uint8 (H, W), light on black.
        scale, left, top: x in the image is x in the picture * scale + left, y likewise + top.
    """

    image: np.ndarray
    scale: float
    left: float
    top: float

    def to_picture(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (N, 4) in pixels of the picture."""
        return (boxes - [self.left, self.top, self.left, self.top]) / self.scale


def is_framed(picture: np.ndarray, shape: tuple[int | None, int | None]) -> bool:
    """Whether it already is as a model takes it: of its size, light on dark."""
    return picture.shape == shape and not is_light(picture)


def normalize_digit(ink: Ink, shape: tuple[int | None, int | None]) -> Framed:
    """Set ink into a frame as MNIST's digits are.

    Args:
        shape: height and width of the frame; None, None: several digits stay where they are to each other.
    """
    amount, mask = ink.amount, ink.mask
    (top, bottom), (left, right) = (ends(np.any(mask, axis=axis)) for axis in (1, 0))
    height, width = bottom - top, right - left
    if shape[0] is None or shape[1] is None:
        stroke = STROKE * 28
        # Thickening and rounding take a few more pixels.
        largest = MAX_SCENE - 2 * MARGIN - 2 * stroke - 2
        scale = min(DIGIT_HEIGHT / typical_height(mask), largest / max(height, width))
    else:
        side = min(shape[0], shape[1])
        scale = DIGIT_SHARE * side / max(height, width)
        stroke = STROKE * side
    # A margin for what thickening adds.
    border = max(1, round(stroke / scale))
    amount, mask = (np.pad(part[top:bottom, left:right], border) for part in (amount, mask))
    digit = resized(thicken(amount, mask, stroke / scale), scale)
    digit = digit / digit.max()
    if shape[0] is None or shape[1] is None:
        rows, columns = (max(28, side + 2 * MARGIN) for side in digit.shape)
        offset = (rows - digit.shape[0]) // 2, (columns - digit.shape[1]) // 2
    else:
        rows, columns = shape[0], shape[1]
        centre = ndimage.center_of_mass(digit)
        offset = round(rows / 2 - centre[0]), round(columns / 2 - centre[1])
    image = _placed(digit, offset, (rows, columns))
    return Framed(
        image=np.rint(255 * image).astype(np.uint8),
        scale=ink.shrink * scale,
        left=offset[1] - (ink.left + left - border) * scale,
        top=offset[0] - (ink.top + top - border) * scale,
    )


def typical_height(mask: np.ndarray) -> float:
    """The height of a digit among several: the mean over strokes, each weighing as much as it has ink."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    heights = [rows.stop - rows.start for rows, _ in ndimage.find_objects(labels)]
    return float(np.average(heights, weights=np.bincount(labels.ravel())[1:]))


def thicken(amount: np.ndarray, mask: np.ndarray, width: float) -> np.ndarray:
    """Widen strokes to a width in pixels, if they are narrower."""
    # In a band of width w the mean distance to its edge is w / 4.
    radius = (width - 4 * ndimage.distance_transform_edt(mask)[mask].mean()) / 2
    if radius <= 0.5:
        return amount
    distance, nearest = ndimage.distance_transform_edt(~mask, return_indices=True)
    return np.maximum(amount, amount[tuple(nearest)] * np.clip(radius + 0.5 - distance, 0, 1))


def _placed(digit: np.ndarray, offset: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    image = np.zeros(shape, np.float32)
    target, source = [], []
    for start, length, side in zip(offset, digit.shape, shape, strict=True):
        first, last = max(0, start), min(side, start + length)
        target.append(slice(first, last))
        source.append(slice(first - start, last - start))
    image[tuple(target)] = digit[tuple(source)]
    return image
