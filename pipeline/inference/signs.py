"""Signs of arithmetic between digits: a classifier of digits takes a slash for a 1 and a plus for a 4.

By itself a slash is no different from a 1 that leans. Among other marks it is: it leans far more than they do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.inference.ink import Ink, ends

# Of a mark by itself nothing can be said; of a bar there must be two others.
FEWEST = 2
# A bar has one stroke at each height, nowhere wider than this share of its height, and is this near to a smooth curve.
BAR_WIDTH = 0.3
BAR_ERROR = 0.03
# A slash leans more than its neighbours, as a share of its height, by so much; by less where it is taller.
LEAN = 0.55
# A parenthesis bows by this share of its length: of MNIST's ones one in fifty does.
BOW = 0.11
# A cross is at most so high, its neighbours being 1.
CROSS_HEIGHT = 0.8
# Where its four arms are looked for, as shares of the way from its middle to its sides.
RINGS = (0.5, 0.65, 0.8)


@dataclass(frozen=True)
class Shape:
    """What tells signs from digits: the height in pixels, how far it leans and bows, whether it is a bar or a cross."""

    height: int
    lean: float
    bow: float
    bar: bool
    cross: bool


def are_signs(line: Sequence[Ink]) -> list[bool]:
    """Which marks of a line of writing are slashes, parentheses and crosses."""
    if len(line) < FEWEST:
        return [False] * len(line)
    shapes = [shape_of(ink.mask) for ink in line]
    found = []
    for at, shape in enumerate(shapes):
        others = [other for other in shapes[:at] + shapes[at + 1 :] if not other.cross] or shapes
        taller = shape.height / float(np.median([other.height for other in others]))
        leaning = abs(shape.lean - float(np.median([other.lean for other in others])))
        bar = shape.bar and len(line) > FEWEST and (leaning + max(0.0, taller - 1) > LEAN or abs(shape.bow) > BOW)
        found.append(bar or (shape.cross and taller < CROSS_HEIGHT))
    # What stands there is not passed over as a whole.
    return [False] * len(line) if all(found) else found


def shape_of(mask: np.ndarray) -> Shape:
    """The shape of strokes, bool (H, W)."""
    (top, bottom), (left, right) = (ends(np.any(mask, axis=axis)) for axis in (1, 0))
    mask = mask[top:bottom, left:right]
    height, width = mask.shape
    rows = np.flatnonzero(mask.any(1))
    inked = mask[rows].sum(1)
    middles = (mask[rows] * np.arange(width)).sum(1) / inked
    line, curve = (
        np.polyfit(rows, middles, degree) if len(rows) > degree else np.zeros(degree + 1) for degree in (1, 2)
    )
    runs = np.maximum(0, np.diff(mask.astype(np.int8), axis=1, prepend=0)).sum(1)[rows]
    error = float(np.sqrt(np.mean((middles - np.polyval(curve, rows)) ** 2))) / height
    bar = (runs == 1).mean() > 0.9 and error < BAR_ERROR and inked.max() < BAR_WIDTH * height
    return Shape(
        height, float(line[0]), float(curve[0] * height / 4 / np.hypot(1, line[0])), bool(bar), _is_cross(mask)
    )


def _is_cross(mask: np.ndarray) -> bool:
    """Whether four arms go from the middle."""
    y, x = (np.arange(side) - (side - 1) / 2 for side in mask.shape)
    middle = np.hypot(*np.meshgrid(y / mask.shape[0], x / mask.shape[1], indexing="ij")) < 0.15
    # The smallest marks have no middle.
    if not 0.5 < mask.shape[0] / mask.shape[1] < 2 or mask[middle].sum() <= 0.4 * middle.sum():
        return False
    angles = np.linspace(0, 2 * np.pi, 180, endpoint=False)
    arms = []
    for ring in RINGS:
        rows = np.rint(y[-1] + y[-1] * ring * np.sin(angles)).astype(int)
        columns = np.rint(x[-1] + x[-1] * ring * np.cos(angles)).astype(int)
        inked = mask[rows, columns].astype(np.int8)
        arms.append(int((np.diff(inked, append=inked[:1]) == 1).sum()))
    return bool(np.median(arms) >= 4)
