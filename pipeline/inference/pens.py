"""Writing in several pens: beside a black one, pencil looks like what shows through from the back of the sheet."""

import numpy as np
from scipy import ndimage

from pipeline.inference.threshold import otsu

# On one picture are at most so many.
MOST = 3
# Of a stroke's places so many are nearer to ink than to paper, be they soft; of what is paler, fewer.
INKED = 0.25
# What is written in a paler pen is so high and so thick, the strokes of the darker ones being 1, and no long line.
HIGH, THICK = (0.5, 2.0), (0.4, 2.0)
LONG = 8
# Its edges are sharper than this, those of the darker ones being 1; through paper, ink is seen as through a fog.
SHARP = 0.7


def evened(raised: np.ndarray, strokes: np.ndarray, near: np.ndarray) -> np.ndarray:
    """How much every place differs from its paper, what is written in paler pens as much as in the darkest.

    Args:
        raised: float (H, W).
        strokes: where there may be ink, however pale, bool (H, W).
        near: these and the paper around them, bool (H, W).
    """
    labels, count = ndimage.label(strokes, structure=np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1)
    places = ndimage.find_objects(labels)
    heights = np.array([1] + [rows.stop - rows.start for rows, _ in places])
    widths = np.array([0] + [columns.stop - columns.start for _, columns in places])
    thickness = np.zeros(count + 1)
    np.maximum.at(thickness, labels, ndimage.distance_transform_edt(strokes))
    for _ in range(1, MOST):
        marks = strokes & (raised > otsu(raised[near]))
        dark = np.bincount(labels[marks], minlength=count + 1) > INKED * areas
        if not dark.any():
            break
        shares = [values / np.average(values[dark], weights=areas[dark]) for values in (heights, thickness)]
        alike = [(low < share) & (share < high) for share, (low, high) in zip(shares, (HIGH, THICK), strict=True)]
        written = ~dark & np.all(alike, axis=0) & (widths < LONG * heights)
        if not written.any():
            break
        # A pen's dots and dashes are as pale as its digits; what is larger are lines.
        pale = (~dark & (shares[0] < HIGH[1]) & (widths < LONG * heights))[labels] & strokes
        pen = written[labels]
        pen &= raised > otsu(raised[near & ndimage.binary_dilation(pen, iterations=3)])
        if not pen.any() or _sharpness(raised, pen) < SHARP * _sharpness(raised, marks & dark[labels]):
            break
        around = ndimage.binary_dilation(pale, iterations=3) & (pale | ~strokes)
        raised = np.where(around, raised * np.median(raised[marks]) / np.median(raised[pen]), raised)
    return raised


def _sharpness(raised: np.ndarray, mask: np.ndarray) -> float:
    """How steeply strokes rise from their paper, as a share of their height a pixel."""
    edges = ndimage.binary_dilation(mask, iterations=2)
    slope = np.hypot(*(ndimage.sobel(raised, axis) / 8 for axis in (0, 1)))
    return float(np.percentile(slope[edges], 90) / np.median(raised[mask]))
