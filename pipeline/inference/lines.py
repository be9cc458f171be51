"""Printed lines on a form: boxes around digits, rules under them, lines from edge to edge of the paper."""

import numpy as np
from scipy import ndimage

# Lines on a photograph are not quite level: they may leave their row by this share of their length.
SLANT = 0.01
# A line across the whole picture is at least this share of it long.
FROM_EDGE_TO_EDGE = 0.95
# A side of a box lies in the outer share of it and is whole but for a few gaps.
SIDE_BAND = 0.2
WHOLE = 0.85
# A line crosses this share of a box.
CROSSES = 0.8
# Its lines are no thicker than this share of it: thicker ones are a digit's strokes.
THIN = 0.1
# What is in a box is at least so high.
CONTENT = 0.12
# The smallest box, in pixels.
SMALLEST = 16
# A rule is this many times as long as thick, and as what is written is high.
RULE = 8
LONG = 3


def find_lines(mask: np.ndarray) -> np.ndarray:
    """The printed lines among strokes, all bool (H, W)."""
    lines = _crossing(mask)
    lines |= _boxes(mask & ~lines)
    return lines | _rules(mask & ~lines)


def without_lines(mask: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Strokes without lines; a stroke that goes on beyond a line is not cut."""
    if not lines.any():
        return mask
    left = mask & ~lines
    thick = 3 + round(_thickness(lines))
    padded = np.pad(left, thick)
    bridges = np.zeros_like(left)
    for shape in ((thick, 1), (1, thick)):
        bridges |= ndimage.binary_closing(padded, np.ones(shape))[thick:-thick, thick:-thick]
    return left | (bridges & lines)


def _thickness(mask: np.ndarray) -> float:
    """How thick strokes are, in pixels."""
    # In a band of width w the mean distance to its edge is w / 4.
    return 4 * float(ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1][mask].mean()) if mask.any() else 0.0


def _crossing(mask: np.ndarray) -> np.ndarray:
    """Lines from edge to edge, where there are several: a single one may be the foot of a 2 cut out tightly."""
    lines = np.zeros_like(mask)
    for axis in (0, 1):
        found = _straight(mask, round(FROM_EDGE_TO_EDGE * mask.shape[axis]), axis)
        if ndimage.label(found)[1] > 1:
            lines |= found
    return lines if without_lines(mask, lines).any() else np.zeros_like(mask)


def _boxes(mask: np.ndarray) -> np.ndarray:
    """Lines around something, and those across between them, as in a row of cells."""
    labels, _ = ndimage.label(mask, structure=np.ones((3, 3)))
    lines = np.zeros_like(mask)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        part = labels[rows, columns] == number
        if min(part.shape) < SMALLEST:
            continue
        found = [_straight(part, round(CROSSES * part.shape[axis]), axis) for axis in (0, 1)]
        both = found[0] | found[1]
        if _thickness(both) < THIN * min(part.shape) and _are_sides(*found) and _hold(mask[rows, columns], both):
            lines[rows, columns] |= both
    return lines


def _are_sides(vertical: np.ndarray, horizontal: np.ndarray) -> bool:
    """Whether straight lines run along at least three sides of the rectangle that they are in."""
    deep, wide = (max(1, round(SIDE_BAND * side)) for side in vertical.shape)
    sides = horizontal[:deep].any(0), horizontal[-deep:].any(0), vertical[:, :wide].any(1), vertical[:, -wide:].any(1)
    return sum(side.mean() > WHOLE for side in sides) >= 3


def _hold(mask: np.ndarray, lines: np.ndarray) -> bool:
    """Whether something as high as a digit stands between lines."""
    margins = [round(side / 20) for side in mask.shape]
    inner = without_lines(mask, lines)[margins[0] : mask.shape[0] - margins[0], margins[1] : mask.shape[1] - margins[1]]
    labels, _ = ndimage.label(inner, structure=np.ones((3, 3)))
    return any(rows.stop - rows.start > CONTENT * mask.shape[0] for rows, _ in ndimage.find_objects(labels))


def _rules(mask: np.ndarray) -> np.ndarray:
    """Lines that stand by themselves, far longer than what is written is high."""
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    sizes = np.array([(r.stop - r.start, c.stop - c.start) for r, c in ndimage.find_objects(labels)]).reshape(-1, 2)
    flat = RULE * sizes[:, 0] < sizes[:, 1]
    if not flat.any() or flat.all():
        return np.zeros_like(mask)
    areas = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    high = np.average(sizes[~flat, 0], weights=areas[~flat])
    return np.concatenate([[False], flat & (sizes[:, 1] > LONG * high)])[labels]


def _straight(mask: np.ndarray, length: int, axis: int) -> np.ndarray:
    """Where strokes run along an axis for so many pixels, nearly straight."""
    slack = 1 + 2 * round(SLANT * length)
    wide = ndimage.maximum_filter1d(mask.view(np.uint8), slack, axis=1 - axis)
    runs = ndimage.minimum_filter1d(wide, length, axis=axis, mode="constant")
    # Even lengths have no middle.
    runs = ndimage.maximum_filter1d(runs, length, axis=axis, mode="constant", origin=length % 2 - 1)
    return mask & runs.astype(bool)
