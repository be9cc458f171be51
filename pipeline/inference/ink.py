"""The ink on a picture: where it is and how much, whatever the paper, the light and the table beside it."""

from dataclasses import dataclass, field, replace

import numpy as np
from PIL import Image
from scipy import ndimage

from pipeline.errors import InputError
from pipeline.inference.lines import find_lines, without_lines
from pipeline.inference.pens import Marks, evened, too_pale
from pipeline.inference.sheet import find_sheet
from pipeline.inference.threshold import otsu

# A larger picture is shrunk first: a digit of a fiftieth of its height is then still as large as a model's.
WORKING_SIDE = 1440
# A smaller one is enlarged: strokes a pixel or two wide have no shape.
SMALLEST_SIDE = 128
# Ink stands out from paper by at least so much of the way from black to white, and by so many times the paper's grain.
MIN_CONTRAST = 0.05
GRAINS = 6
# What is so much fainter than the darkest ink is a halo around it, or what shows through.
FAINT = 0.2
# The smallest stroke, in pixels: less is grain.
MIN_STROKE = 12
# Spots smaller than this share of the largest are dirt.
DIRT = 0.03
# What is written is at least this part of the picture's longer side.
SMALL = 60
# What touches the border and is so many times as thick as the strokes inside is none.
THICKER = 3
# What touches the border is the table beside the paper, if something inside is at least this share as large.
INSIDE = 0.1
# Of what is taken for dirt a dot may be written, if so thick, and a digit that the border cuts, if so thick and large,
# the strokes being 1.
DOT = 0.5
CUT_THICK, CUT_LARGE = (0.5, 1.6), (0.5, 2.0)
# The margin that a picture gets which has none: so much of its longer side.
MARGIN = 6
# Fewer pixels show no digit; a strip that is shrunk to fewer than these across, none that can be read.
MIN_PIXELS = 64
MIN_ACROSS = 16
# Within an eightieth of a picture the edges of strokes rise by so much of their contrast, shades do not; in
# a picture of fewer pixels all is soft.
MIN_EDGE = 0.06
SOFT_SIDE = 64


@dataclass(frozen=True)
class Ink:
    """The ink on a picture or on a part of it.

    Attributes:
        amount: how much there is at each place, float32 (H, W) from 0 to 1.
        mask: where its strokes are, bool (H, W).
        shrink: the size of these to that of the picture.
        left, top: where these begin in the shrunk picture.
        left_out: boxes (N, 4), x1, y1, x2, y2 in pixels of the picture, of marks that may be written, but are taken for
            dirt.
    """

    amount: np.ndarray
    mask: np.ndarray
    shrink: float
    left: int = 0
    top: int = 0
    left_out: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))

    @property
    def box(self) -> np.ndarray:
        """x1, y1, x2, y2 of its strokes in pixels of the picture."""
        (top, bottom), (left, right) = (ends(np.any(self.mask, axis=axis)) for axis in (1, 0))
        return self.in_picture(np.array([left, top, right, bottom]))

    def in_picture(self, boxes: np.ndarray) -> np.ndarray:
        """Boxes (..., 4) of places in its arrays, x1, y1, x2, y2, in pixels of the picture."""
        return (boxes + [self.left, self.top] * 2) / self.shrink

    def part(self, mask: np.ndarray, rows: slice, columns: slice) -> "Ink":
        """Only some of the strokes, given where they are in a rectangle."""
        others = self.mask[rows, columns] & ~mask
        near = ndimage.binary_dilation(mask, iterations=2) & ~others
        amount = np.where(near, self.amount[rows, columns], 0)
        return Ink(amount, mask, self.shrink, self.left + columns.start, self.top + rows.start)


def segment_ink(picture: np.ndarray, *, name: str) -> Ink:
    """Tell ink from paper, whatever the light.

    Args:
        picture: uint8 (H, W), dark on light or light on dark.

    Raises:
        InputError: it shows no ink, or is too small, too narrow or too soft to show any; the text begins with its name.
    """
    height, width = picture.shape
    if picture.size < MIN_PIXELS:
        raise InputError(f"{name} has {width} x {height} px: too few to show a digit.")
    if max(picture.shape) > max(WORKING_SIDE, WORKING_SIDE / MIN_ACROSS * min(picture.shape)):
        raise InputError(f"{name} is a strip of {width} x {height} px: crop it to its digits.")
    shrink = min(1.0, WORKING_SIDE / max(picture.shape)) * max(1.0, SMALLEST_SIDE / max(picture.shape))
    grey = resized(picture / np.float32(255), shrink)
    sheet = find_sheet(grey)
    ink = None if sheet is None else _within(grey, sheet, shrink)
    ink = ink or _within(grey, np.ones(grey.shape, bool), shrink) or _with_margin(grey, shrink)
    if ink is None:
        raise InputError(f"{name} shows no ink: dark strokes on light paper, or the reverse, are looked for.")
    if max(picture.shape) > SOFT_SIDE and not _has_edges(grey, ink):
        raise InputError(f"{name} shows soft shades, but no strokes with edges: take a sharper picture.")
    return ink


def is_light(picture: np.ndarray) -> bool:
    """Whether it is dark ink on light paper: what differs from its surroundings is darker than they are."""
    grey = resized(picture, min(1.0, 256 / max(picture.shape)))
    # The edge of a shadow is as much darker on its one side as it is brighter on the other, and a stroke is not.
    raised = grey - ndimage.gaussian_filter(grey, max(grey.shape) / 10)
    return bool((raised**3).sum() < 0)


def _within(grey: np.ndarray, region: np.ndarray, shrink: float) -> Ink | None:
    """The ink in a region of a picture; None: there is none."""
    rows, columns = (slice(*ends(np.any(region, axis=axis))) for axis in (1, 0))
    grey, region = grey[rows, columns], region[rows, columns]
    grey = np.where(region, grey, np.median(grey[region]))
    raised = _raised(grey)
    paper = np.median(raised[region])
    grain = 1.4826 * np.median(np.abs(raised[region] - paper))
    raised = np.where(region, raised - paper, 0)
    least = max(MIN_CONTRAST, GRAINS * grain)
    table, joined = _table(raised > max(least, FAINT * raised.max()))
    raised = np.where(ndimage.binary_dilation(table, iterations=3), 0, raised)
    threshold = max(least, FAINT * raised.max())
    lines = ndimage.binary_dilation(find_lines(raised > threshold))
    seeds = without_lines(raised > threshold, lines)
    if not seeds.any():
        return None
    # Where there is little ink in all, its surroundings tell best how dark the paper is.
    near = ndimage.binary_dilation(seeds, iterations=max(2, max(grey.shape) // 200)) & (seeds | ~lines)
    raised = evened(raised, seeds, near)
    marks = without_lines(raised > otsu(raised[near]), lines)
    strokes = without_dirt(marks)
    if strokes.all() or _extent(strokes) < MIN_STROKE:
        return None
    near = ndimage.binary_dilation(strokes, iterations=2) & (strokes | ~lines)
    amount = np.where(near, np.clip(raised / np.median(raised[strokes]), 0, 1), 0)
    ink = Ink(amount.astype(np.float32), strokes, shrink, columns.start, rows.start)
    faint = raised > least
    pale = _boxes(too_pale(raised, faint, marks, lines | find_lines(faint)))
    return replace(ink, left_out=ink.in_picture(np.concatenate([_doubtful(marks, strokes), joined, pale])))


def _with_margin(grey: np.ndarray, shrink: float) -> Ink | None:
    """The ink on a picture that it fills to the border, where paper is seen too little to tell the two apart."""
    side = max(grey.shape) // MARGIN
    paper = np.percentile(grey, 95 if is_light(grey) else 5)
    ink = _within(np.pad(grey, side, constant_values=paper), np.ones(np.add(grey.shape, 2 * side), bool), shrink)
    if ink is None:
        return None
    inner = (slice(side, -side),) * 2
    ink = replace(ink, amount=ink.amount[inner], mask=ink.mask[inner], left_out=ink.left_out - side / shrink)
    if not ink.mask.any():
        return None
    return ink if max(grey.shape) <= SOFT_SIDE * shrink or _has_edges(grey, ink) else None


def _has_edges(grey: np.ndarray, ink: Ink) -> bool:
    """Whether something near the ink is as sharp as strokes are; a gradient or a spot of light is not."""
    side = max(grey.shape)
    place = tuple(slice(start, start + size) for start, size in zip((ink.top, ink.left), ink.mask.shape, strict=True))
    fine, coarse = (ndimage.gaussian_filter(grey, side / share)[place] for share in (320, 80))
    rise = np.abs(fine - coarse)
    near = ndimage.binary_dilation(ink.mask, iterations=3)
    # Mirrored at the border, a gradient has an edge there.
    inside = np.pad(np.ones(np.maximum(np.array(grey.shape) - 2 * (side // 40), 0), bool), side // 40)[place]
    inner = near & inside if (near & inside).any() else near
    # Grain rises as fast, but everywhere: of a normal distribution nine in ten are below so many medians.
    grain = 2.44 * np.median(rise[~near]) if not near.all() else 0
    low, high = np.percentile(fine[near], (5, 95))
    steep = min(np.percentile(rise[part], 90) for part in (near, inner))
    return bool(steep - grain > MIN_EDGE * (high - low))


def _table(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What reaches in from the border and is far thicker than the strokes inside: a table, a dark edge, a thumb.

    Returns:
        where it is, bool (H, W), and the boxes (N, 4), x1, y1, x2, y2, of what sticks out of it as a digit does.
    """
    marked = Marks.of(mask)
    labels, thickness, extents = marked.labels, marked.thickness, np.maximum(marked.heights, marked.widths)
    border = np.zeros(len(extents), bool)
    border[np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])] = True
    strokes = ~border & (extents > max(MIN_STROKE, max(mask.shape) / SMALL))
    if not strokes.any():
        return np.zeros_like(mask), np.zeros((0, 4), int)
    thick, large = (np.median(values[strokes]) for values in (thickness, extents))
    table = (border & (thickness > THICKER * thick))[labels]
    inner = ndimage.distance_transform_edt(table) > CUT_THICK[1] * thick
    joined = table & (ndimage.distance_transform_edt(~inner) > CUT_THICK[1] * thick + 2) if inner.any() else inner
    boxes = _boxes(joined)
    return table, boxes[(boxes[:, 2:] - boxes[:, :2]).max(1, initial=0) > CUT_LARGE[0] * large]


def _boxes(mask: np.ndarray) -> np.ndarray:
    """x1, y1, x2, y2 of each stroke, int (N, 4)."""
    places = ndimage.find_objects(ndimage.label(mask, structure=np.ones((3, 3)))[0])
    return np.array([(c.start, r.start, c.stop, r.stop) for r, c in places], int).reshape(-1, 4)


def _extent(mask: np.ndarray) -> int:
    """The longer side of the largest stroke, in pixels."""
    boxes = _boxes(mask)
    return int((boxes[:, 2:] - boxes[:, :2]).max(initial=0))


def _raised(grey: np.ndarray) -> np.ndarray:
    """How much every place differs from the paper around it.

    Shadows and uneven light are wider than strokes: a morphological closing leaves only them, with their edges.
    """
    side = max(grey.shape)
    smooth = ndimage.gaussian_filter(grey, min(1.0, side / 600))
    if not is_light(grey):
        return smooth + _paper(-smooth)
    paper = _paper(smooth)
    # Ink takes a share of the light, be it in the shadow or not.
    return (paper - smooth) / (paper + 0.05)


def _paper(smooth: np.ndarray) -> np.ndarray:
    """What is left of a picture, dark on light, when strokes are closed, but no shadow."""
    size = max(3, max(smooth.shape) // 3)
    closed = ndimage.grey_closing(smooth, size=size)
    # Mirrored at the border, the slanting edge of a shadow is a wedge, too narrow for the square that closes. Going on
    # straight it is none, but so does a stroke along the border: only what is as dark as paper nearby is paper.
    straight = ndimage.grey_closing(np.pad(smooth, size, mode="edge"), size=size)[size:-size, size:-size]
    return np.maximum(straight, ndimage.minimum_filter(closed, size))


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


def _doubtful(marks: np.ndarray, strokes: np.ndarray) -> np.ndarray:
    """Boxes (N, 4), x1, y1, x2, y2, of marks taken for dirt that are as thick as a dot or a digit cut by the border."""
    labels, count = ndimage.label(marks, structure=np.ones((3, 3)))
    depth = ndimage.distance_transform_edt(np.pad(marks, 1))[1:-1, 1:-1]
    thickness = np.zeros(count + 1)
    np.maximum.at(thickness, labels, depth)
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    places = ndimage.find_objects(labels)
    boxes = np.array([(0, 0, 0, 0)] + [(c.start, r.start, c.stop, r.stop) for r, c in places])
    sizes = (boxes[:, 2:] - boxes[:, :2]).max(1)
    dirt = np.ones(count + 1, bool)
    dirt[np.unique(labels[strokes])] = dirt[0] = False
    main = np.where(dirt, 0, areas)[1:].argmax() + 1
    border = np.any(boxes == [0, 0, *marks.shape[::-1]], axis=1)
    # In a band the mean distance to its edge is half of the greatest, however thick it is where strokes cross.
    thick, large = thickness / (2 * depth[labels == main].mean()), sizes / sizes[main]
    dots = ~border & (thick > DOT)
    between = [(low < share) & (share < high) for share, (low, high) in ((thick, CUT_THICK), (large, CUT_LARGE))]
    return boxes[dirt & (dots | (border & np.all(between, axis=0) & (areas > INSIDE * areas[main])))]


def ends(line: np.ndarray) -> tuple[int, int]:
    """The first place of a bool (N,) that is true, and the one after the last."""
    there = np.flatnonzero(line)
    return int(there[0]), int(there[-1]) + 1


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """A float image scaled by a factor."""
    size = [max(1, round(side * scale)) for side in image.shape[::-1]]
    return np.asarray(Image.fromarray(np.asarray(image, np.float32)).resize(size, Image.Resampling.BICUBIC)).clip(0)
