"""What may be the digits on a picture, in reading order, and the choice among them.

Strokes are parted into pieces, a digit or less each; runs of pieces are candidates, and a classifier says which are
digits: LeCun, Bottou, Bengio, Haffner, "Gradient-based learning applied to document recognition", 1998, section VI.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from pipeline.errors import InputError
from pipeline.inference.ink import Ink

# More marks than this are a text, a pattern or a face.
MAX_MARKS = 150
# A mark so much lower than the others is a dot, a dash or dirt, or a part of the digit that it is next to.
LOW = 0.45
# A dot is no larger than this, in heights of a digit, and fills so much of its box; a point stands in the lowest third.
DOT = 0.25
ROUND = 0.6
# Strokes that nearly touch are digits of their own if each is so high, the height of both together being 1.
TALL = 0.7
# Pieces belong together if so little paper is between them, in heights of a digit.
NEAR = 0.15
# Parts of a digit stand upon each other with at most so much of their height between them; where there are many marks,
# together they are no higher than this, in heights of a digit.
GAP = 0.11
HIGHEST = 1.6
MANY = 4
# Digits in a line are at most so many heights apart, and at least this share of their height is beside each other.
APART = 4
BESIDE = 0.4
# Strokes this wide, in heights of a digit, may be several digits that touch.
WIDE = 0.6
# The narrowest part of them, in heights.
NARROW = 0.25
CUTS = 3
# One digit is at most so wide, in heights, and in so many pieces.
WIDEST = 1.5
PIECES = 4
# What it costs to part strokes, and to join what does not touch: both readings must differ so much in logarithms.
CUT_COST = 2.0
JOIN_COST = 0.3


@dataclass(frozen=True)
class Candidate:
    """Pieces of a line of writing, from the first up to but without the last, taken for one digit."""

    first: int
    last: int
    ink: Ink
    cost: float


def find_lines_of_writing(ink: Ink, *, name: str) -> tuple[list[list[Candidate]], np.ndarray]:
    """The candidates of each line, the lines from top to bottom, and the boxes (N, 4) of marks too low to be digits.

    The boxes are x1, y1, x2, y2 in pixels of the picture.

    Raises:
        InputError: there are far more marks than digits make; the text begins with the picture's name.
    """
    labels, boxes = _marks(ink.mask)
    if len(boxes) > MAX_MARKS:
        raise InputError(
            f"{name} shows {len(boxes)} separate marks, which is no writing of digits: crop it to the digits."
        )
    areas = np.bincount(labels.ravel(), minlength=len(boxes) + 1)[1:]
    height = float(np.average(boxes[:, 2] - boxes[:, 0], weights=areas))
    boxes, low = _joined(labels, boxes, height)
    boxes = _stacked(labels, boxes, height)
    lines = [_candidates(ink, labels, _cut(labels, boxes, line, height), height) for line in _lines(boxes, height)]
    return lines, ink.in_picture(low[:, [1, 0, 3, 2]])


def choose(line: Sequence[Candidate], log_probabilities: np.ndarray) -> list[int]:
    """The candidates, by position, that make the most probable reading of a line: each piece is in one of them.

    Args:
        log_probabilities: of the best class of each.
    """
    pieces = max(candidate.last for candidate in line)
    best: list[tuple[float, list[int]]] = [(0.0, []), *((-np.inf, []) for _ in range(pieces))]
    for position in sorted(range(len(line)), key=lambda at: line[at].first):
        candidate = line[position]
        before, chosen = best[candidate.first]
        score = before + float(log_probabilities[position]) - candidate.cost
        if score > best[candidate.last][0]:
            best[candidate.last] = (score, [*chosen, position])
    return best[pieces][1]


def reading_order(boxes: np.ndarray) -> list[list[int]]:
    """Boxes float (N, 4), x1, y1, x2, y2, by position: lines from top to bottom, each from left to right."""
    if not len(boxes):
        return []
    return _lines(boxes[:, [1, 0, 3, 2]], float(np.median(boxes[:, 3] - boxes[:, 1])))


def _marks(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Strokes that touch or nearly do: their numbers (H, W), and top, left, bottom, right of each (N, 4)."""
    # In a band of width w the mean distance to its edge is w / 4.
    reach = round(ndimage.distance_transform_edt(mask)[mask].mean())
    wide = ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=max(1, reach))
    groups = ndimage.label(wide, structure=np.ones((3, 3)))[0] * mask
    strokes, count = ndimage.label(mask, structure=np.ones((3, 3)))
    high = np.array([rows.stop - rows.start for rows, _ in ndimage.find_objects(groups)])
    places = ndimage.find_objects(strokes)
    group_of = np.array([groups[place][strokes[place] == at].max() for at, place in enumerate(places, start=1)])
    # A digit whose pen was lifted is in low pieces; two that nearly touch are as high as both together.
    tall = np.array([place[0].stop - place[0].start for place in places]) > TALL * high[group_of - 1]
    for group in np.flatnonzero(np.bincount(group_of[tall]) > 1):
        rows, columns = ndimage.find_objects((groups == group).astype(np.uint8))[0]
        here = groups[rows, columns]
        seeds = np.where(
            (here == group) & np.isin(strokes[rows, columns], 1 + np.flatnonzero(tall)), strokes[rows, columns], 0
        )
        nearest = ndimage.distance_transform_edt(seeds == 0, return_distances=False, return_indices=True)
        here[here == group] = count + seeds[tuple(nearest)][here == group]
    labels = np.unique(groups, return_inverse=True)[1].reshape(groups.shape)
    return labels, _boxes(labels)


def _boxes(labels: np.ndarray) -> np.ndarray:
    found = ndimage.find_objects(labels)
    return np.array([(rows.start, columns.start, rows.stop, columns.stop) for rows, columns in found])


def _joined(labels: np.ndarray, boxes: np.ndarray, height: float) -> tuple[np.ndarray, np.ndarray]:
    """Give low marks to the digit that they belong to, and take away the others.

    Returns:
        the boxes, empty where joined or taken away, and those of what was taken away.
    """
    alone = np.zeros(len(boxes), bool)
    before = boxes.copy()
    low = boxes[:, 2] - boxes[:, 0] < LOW * height
    for mark in np.flatnonzero(low):
        top, left, bottom, right = boxes[mark]
        across = np.maximum(boxes[:, 1], left) - np.minimum(boxes[:, 3], right)
        down = np.maximum(boxes[:, 0], top) - np.minimum(boxes[:, 2], bottom)
        near = ~low & (
            (np.maximum(across, down) < NEAR * height) | ((-across > (right - left) / 2) & (down < NEAR * 2 * height))
        )
        where = labels[top:bottom, left:right]
        host = int(np.flatnonzero(near)[np.maximum(across, down)[near].argmin()]) if near.any() else None
        round_ = max(bottom - top, right - left) < DOT * height and (where == mark + 1).mean() > ROUND
        # Beside the foot of a digit it is a decimal point, and no part of it.
        point = host is not None and round_ and across[host] >= 0 and top > boxes[host, [0, 2]] @ (1 / 3, 2 / 3)
        if host is not None and not point:
            where[where == mark + 1] = host + 1
            boxes[host] = [*np.minimum(boxes[host, :2], (top, left)), *np.maximum(boxes[host, 2:], (bottom, right))]
        else:
            where[where == mark + 1] = 0
            alone[mark] = True
        boxes[mark] = 0
    return boxes, before[alone]


def _stacked(labels: np.ndarray, boxes: np.ndarray, height: float) -> np.ndarray:
    """Join marks that stand upon each other with little paper between them, as the parts of a 5; the boxes."""
    there = [mark for mark in np.argsort(boxes[:, 0]).tolist() if boxes[mark, 2]]
    highest = HIGHEST * height if len(there) >= MANY else np.inf
    for upper, lower in itertools.combinations(there, 2):
        both = boxes[[upper, lower]]
        top, left = both[:, :2].min(0)
        bottom, right = both[:, 2:].max(0)
        across = both[:, 3].min() - both[:, 1].max()
        down = both[:, 0].max() - both[:, 2].min()
        near = 0 <= down < GAP * (bottom - top) and bottom - top < highest
        if boxes[upper, 2] and near and across > (both[:, 3] - both[:, 1]).min() / 2:
            where = labels[top:bottom, left:right]
            where[where == upper + 1] = lower + 1
            boxes[lower], boxes[upper] = (top, left, bottom, right), 0
    return boxes


def _lines(boxes: np.ndarray, height: float) -> list[list[int]]:
    """Marks, by position, in lines from top to bottom, each from left to right."""
    there = np.flatnonzero(boxes[:, 2] > boxes[:, 0])
    parts = boxes[there]
    tall = parts[:, 2] - parts[:, 0]
    beside = np.minimum(parts[:, None, 2], parts[:, 2]) - np.maximum(parts[:, None, 0], parts[:, 0])
    apart = np.maximum(parts[:, None, 1], parts[:, 1]) - np.minimum(parts[:, None, 3], parts[:, 3])
    linked = (beside > BESIDE * np.minimum(tall[:, None], tall)) & (apart < APART * height)
    # Whoever is beside one who is beside another is in the same line.
    for _ in range(len(there).bit_length()):
        linked = linked @ linked
    lines = {tuple(there[row].tolist()) for row in linked}
    middle = boxes[:, [0, 2]].mean(1)
    return [
        sorted(line, key=lambda mark: boxes[mark, [1, 3]].mean())
        for line in sorted(lines, key=lambda line: middle[list(line)].mean())
    ]


def _cut(labels: np.ndarray, boxes: np.ndarray, line: list[int], height: float) -> list[tuple[int, int]]:
    """Part wide marks where there is least ink; the number of each piece of a line, and of the mark it is from."""
    pieces = []
    for mark in line:
        top, left, bottom, right = boxes[mark]
        where = labels[top:bottom, left:right]
        column = (where == mark + 1).sum(0)
        pieces.append((mark + 1, mark))
        for at in _thinnest(column, height) if right - left > WIDE * height else []:
            before, beyond = where[:, :at] == pieces[-1][0], where[:, at:] == pieces[-1][0]
            if before.any() and beyond.any():
                number = int(labels.max()) + 1
                where[:, at:][beyond] = number
                pieces.append((number, mark))
    return pieces


def _thinnest(column: np.ndarray, height: float) -> list[int]:
    """Where to cut, from left to right: the columns with least ink, not too near to each other."""
    narrow = max(1, round(NARROW * height))
    allowed = np.zeros(len(column), bool)
    allowed[narrow : len(column) - narrow] = True
    found: list[int] = []
    while allowed.any() and len(found) < max(CUTS, round(2 * len(column) / height)):
        at = int(np.where(allowed, column, column.max() + 1).argmin())
        found.append(at)
        allowed[max(0, at - narrow) : at + narrow + 1] = False
    return sorted(found)


def _candidates(ink: Ink, labels: np.ndarray, pieces: list[tuple[int, int]], height: float) -> list[Candidate]:
    """Runs of pieces that may be a digit, among them every mark as a whole."""
    places = ndimage.find_objects(labels)
    candidates = []
    for first, last in itertools.combinations(range(len(pieces) + 1), 2):
        numbers, marks = zip(*pieces[first:last], strict=True)
        boxes = [places[number - 1] for number in numbers]
        rows, columns = (
            slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in (0, 1)
        )
        cut = [0 < at < len(pieces) and pieces[at - 1][1] == pieces[at][1] for at in (first, last)]
        if last - first > 1 and (any(cut) or marks[0] != marks[-1]):
            gap = max(after[1].start - before[1].stop for before, after in itertools.pairwise(boxes))
            if last - first > PIECES or columns.stop - columns.start > WIDEST * height or gap > NEAR * height:
                continue
        part = ink.part(np.isin(labels[rows, columns], numbers), rows, columns)
        cost = CUT_COST * sum(cut) / 2 + JOIN_COST * (len(set(marks)) - 1)
        candidates.append(Candidate(first, last, part, cost))
    return candidates
