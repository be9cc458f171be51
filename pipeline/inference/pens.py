"""Writing in several pens: beside a black one, pencil looks like what shows through from the back of the sheet."""

from dataclasses import dataclass

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


@dataclass(frozen=True)
class Marks:
    """What hangs together on a picture, each with a number; 0 is the paper.

    Attributes:
        labels: the number at each place, int (H, W).
        areas, heights, widths, thickness: of each in pixels, (N + 1,).
    """

    labels: np.ndarray
    areas: np.ndarray
    heights: np.ndarray
    widths: np.ndarray
    thickness: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray) -> "Marks":
        """Those of a mask, bool (H, W)."""
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        places = ndimage.find_objects(labels)
        thickness = np.zeros(count + 1)
        np.maximum.at(thickness, labels, ndimage.distance_transform_edt(mask))
        return cls(
            labels,
            np.bincount(labels.ravel(), minlength=count + 1),
            np.array([1] + [rows.stop - rows.start for rows, _ in places]),
            np.array([0] + [columns.stop - columns.start for _, columns in places]),
            thickness,
        )

    @property
    def are_short(self) -> np.ndarray:
        """Which are no long line."""
        return self.widths < LONG * self.heights

    def are_written(self, height: float, thickness: float) -> np.ndarray:
        """Which are about as high and as thick as what is written."""
        shares = ((self.heights / height, HIGH), (self.thickness / thickness, THICK))
        alike = [(low < share) & (share < high) for share, (low, high) in shares]
        return np.all(alike, axis=0) & self.are_short & (np.arange(len(self.areas)) > 0)


def too_pale(raised: np.ndarray, faint: np.ndarray, strokes: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """Where something may be written that is too pale to be read beside the ink, bool (H, W).

    Args:
        raised: how much every place differs from its paper, float (H, W).
        faint: what is no grain, but fainter than ink, bool (H, W).
        strokes: the ink, bool (H, W).
        lines: printed ones, bool (H, W).
    """
    ink, marked = Marks.of(strokes), Marks.of(faint | strokes)
    height, thickness = (np.average(of[1:], weights=ink.areas[1:]) for of in (ink.heights, ink.thickness))
    are_written = marked.are_written(height, thickness)
    # What hangs together with ink or a line is its paler part.
    are_written[marked.labels[strokes | lines]] = False
    written = are_written[marked.labels]
    if not written.any() or _sharpness(raised, written) < SHARP * _sharpness(raised, strokes):
        return np.zeros_like(written)
    return written


def evened(raised: np.ndarray, strokes: np.ndarray, near: np.ndarray) -> np.ndarray:
    """How much every place differs from its paper, what is written in paler pens as much as in the darkest.

    Args:
        raised: float (H, W).
        strokes: where there may be ink, however pale, bool (H, W).
        near: these and the paper around them, bool (H, W).
    """
    marked = Marks.of(strokes)
    labels, areas = marked.labels, marked.areas
    for _ in range(1, MOST):
        marks = strokes & (raised > otsu(raised[near]))
        dark = np.bincount(labels[marks], minlength=len(areas)) > INKED * areas
        if not dark.any():
            break
        height, thickness = (np.average(of[dark], weights=areas[dark]) for of in (marked.heights, marked.thickness))
        written = ~dark & marked.are_written(height, thickness)
        if not written.any():
            break
        # A pen's dots and dashes are as pale as its digits; what is larger are lines.
        pale = (~dark & (marked.heights < HIGH[1] * height) & marked.are_short)[labels] & strokes
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
