"""From a photograph or a drawing of digits to an image such as the models know: light ink on black, in its place.

MNIST's digits were scaled to fit a box of 20 px and set into 28 px by their centre of mass: LeCun, Bottou, Bengio,
Haffner, "Gradient-based learning applied to document recognition", Proceedings of the IEEE 1998.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from pipeline.errors import InputError

FORMATS = ("PNG", "JPEG")
MAX_PIXELS = 50_000_000
# A larger picture is shrunk first: what is left is more than enough for 28 px.
WORKING_SIDE = 480
# The share of the frame that the digit's longer side takes, and the digit's height in an image of several.
DIGIT_SHARE = 20 / 28
DIGIT_HEIGHT = 20
MARGIN = 4
MAX_SCENE = 256
# Strokes of MNIST are about so wide, in a frame of 28 px; a thin pen's vanish when shrunk.
STROKE = 2.4 / 28
# Ink differs from paper by at least so much, of the way from black to white.
MIN_CONTRAST = 0.15
# Spots smaller than this share of the largest are dirt.
DIRT = 0.03
# What touches the border is the table beside the paper, if something inside is at least this share as large.
INSIDE = 0.1


@dataclass(frozen=True)
class Ink:
    """The ink on a picture.

    Attributes:
        amount: how much there is at each place, float32 (H, W) from 0 to 1.
        mask: where its strokes are, bool (H, W).
        shrink: the size of these to that of the picture.
    """

    amount: np.ndarray
    mask: np.ndarray
    shrink: float


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


def read(source: Path | bytes, *, name: str) -> np.ndarray:
    """A PNG or JPEG picture as grey values, uint8 (H, W); what is transparent is white.

    Raises:
        InputError: it cannot be read or is too large; the text begins with its name.
    """
    try:
        # Only the readers of these formats: the fewer, the less can be tried on them.
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=FORMATS) as picture:
            if picture.width * picture.height > MAX_PIXELS:
                raise InputError(
                    f"{name} has {picture.width} x {picture.height} px: at most {MAX_PIXELS:,} are read; shrink it."
                )
            # A JPEG then gives its brightness alone, in a third of the memory.
            picture.draft("L", picture.size)
            upright = ImageOps.exif_transpose(picture)
            if upright.mode.startswith("I"):
                return (np.asarray(upright).astype(np.uint32) // 257).astype(np.uint8)
            grey = upright.convert("L")
            if upright.has_transparency_data:
                grey = Image.composite(grey, Image.new("L", grey.size, 255), upright.convert("RGBA").getchannel("A"))
            return np.array(grey)
    except InputError:
        raise
    except Exception as error:
        # Arbitrary bytes make the readers fail in arbitrary ways.
        raise InputError(f"{name} is no PNG or JPEG picture that can be read.") from error


def is_framed(picture: np.ndarray, shape: tuple[int | None, int | None]) -> bool:
    """Whether it already is as a model takes it: of its size, light on dark."""
    return picture.shape == shape and not is_light(picture)


def is_light(picture: np.ndarray) -> bool:
    """Whether it is dark ink on light paper: most of it is nearer to its brightest than to its darkest."""
    darkest, median, brightest = np.percentile(picture, [0.2, 50, 99.8])
    return bool(median > (darkest + brightest) / 2)


def segment_ink(picture: np.ndarray, *, name: str) -> Ink:
    """Tell ink from paper, whatever the light.

    Args:
        picture: uint8 (H, W), dark on light or light on dark.

    Raises:
        InputError: there is no ink on it; the text begins with its name.
    """
    shrink = min(1.0, WORKING_SIDE / max(picture.shape))
    picture = _resized(picture / np.float32(255), shrink)
    picture = ndimage.gaussian_filter(1 - picture if is_light(picture) else picture, max(picture.shape) / 600)
    # Shadows and uneven light are wider than strokes: the white top-hat transform removes them.
    ground = ndimage.grey_opening(picture, size=max(3, max(picture.shape) // 3))
    raised = picture - ndimage.uniform_filter(ground, size=max(3, max(picture.shape) // 10))
    threshold = otsu(raised)
    mask = raised > threshold
    if mask.all() or not mask.any() or raised[mask].mean() - raised[~mask].mean() < MIN_CONTRAST:
        raise InputError(f"{name} shows no ink: dark strokes on light paper, or the reverse, are looked for.")
    mask = without_dirt(mask)
    level, ground = np.median(raised[mask]), np.median(raised[~mask])
    near = ndimage.binary_dilation(mask, iterations=2)
    amount = np.where(near, np.clip((raised - ground) / (level - ground), 0, 1), 0)
    return Ink(amount.astype(np.float32), mask, shrink)


def normalize_digit(ink: Ink, shape: tuple[int | None, int | None]) -> Framed:
    """Set ink into a frame as MNIST's digits are.

    Args:
        shape: height and width of the frame; None, None: several digits stay where they are to each other.
    """
    amount, mask = ink.amount, ink.mask
    (top, bottom), (left, right) = (_ends(np.any(mask, axis=axis)) for axis in (1, 0))
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
    digit = _resized(thicken(amount, mask, stroke / scale), scale)
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
        left=offset[1] - (left - border) * scale,
        top=offset[0] - (top - border) * scale,
    )


def otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two groups best.

    Otsu, "A threshold selection method from gray-level histograms", IEEE Transactions on Systems, Man, and Cybernetics
    1979.
    """
    counts, edges = np.histogram(values, bins=256)
    middles = (edges[:-1] + edges[1:]) / 2
    below = counts.cumsum()
    above = below[-1] - below
    sums = (counts * middles).cumsum()
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (sums / below - (sums[-1] - sums) / above) ** 2
    return float(edges[1 + np.nan_to_num(between, nan=-1).argmax()])


def without_dirt(mask: np.ndarray) -> np.ndarray:
    """The strokes without specks, and without what reaches in from the border beside something inside."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    areas[0] = 0
    border = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
    inside = areas.copy()
    inside[border] = 0
    if inside.max() > INSIDE * areas.max():
        areas = inside
    return (areas > DIRT * areas.max())[labels]


def typical_height(mask: np.ndarray) -> float:
    """The height of a digit among several: the mean over strokes, each weighing as much as it has ink."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    heights = [rows.stop - rows.start for rows, _ in ndimage.find_objects(labels)]
    return float(np.average(heights, weights=np.bincount(labels.ravel())[1:]))


def thicken(amount: np.ndarray, mask: np.ndarray, width: float) -> np.ndarray:
    """Widen strokes to a width in pixels, if they are narrower."""
    # In a band of width w the mean distance to its edge is w / 4.
    radius = round((width - 4 * ndimage.distance_transform_edt(mask)[mask].mean()) / 2)
    if radius < 1:
        return amount
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return ndimage.grey_dilation(amount, footprint=x**2 + y**2 <= radius**2)


def _ends(line: np.ndarray) -> tuple[int, int]:
    there = np.flatnonzero(line)
    return int(there[0]), int(there[-1]) + 1


def _resized(image: np.ndarray, scale: float) -> np.ndarray:
    size = [max(1, round(side * scale)) for side in image.shape[::-1]]
    return np.asarray(Image.fromarray(np.asarray(image, np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0)


def _placed(digit: np.ndarray, offset: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    image = np.zeros(shape, np.float32)
    target, source = [], []
    for start, length, side in zip(offset, digit.shape, shape, strict=True):
        first, last = max(0, start), min(side, start + length)
        target.append(slice(first, last))
        source.append(slice(first - start, last - start))
    image[tuple(target)] = digit[tuple(source)]
    return image
