"""The sheet of paper on a picture that shows the table around it, too."""

import numpy as np
from PIL import Image
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from pipeline.inference.threshold import otsu

SIDE = 160
# A sheet takes this share of the picture, and fills its smallest rectangle but for a slant or a torn corner.
SHARE = (0.06, 0.95)
RECTANGULAR = 0.85
# It lies in the picture rather than reaching across it, as the part of a page does that no shadow falls on.
MAX_CONTACT = 0.3
# It differs from the table by so much of the way from black to white, most of it at its very edge.
MIN_CONTRAST = 0.1
MIN_STEP = 0.5


def find_sheet(picture: np.ndarray) -> np.ndarray | None:
    """Where a sheet lies, bool (H, W), without its edge; None: the picture shows no table.

    Args:
        picture: float32 (H, W) from 0 to 1.
    """
    shrink = min(1.0, SIDE / max(picture.shape))
    size = [max(1, round(side * shrink)) for side in picture.shape[::-1]]
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    if min(small.shape) < 28:
        return None
    bright = small > otsu(small)
    for region in (bright, ~bright):
        sheet = ndimage.binary_fill_holes(_largest(ndimage.binary_opening(region, iterations=2)))
        if _is_sheet(sheet, small):
            inner = ndimage.binary_erosion(sheet, iterations=2)
            return np.asarray(Image.fromarray(inner).resize(picture.shape[::-1], Image.Resampling.NEAREST))
    return None


def _largest(region: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(region)
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return labels == areas.argmax() if areas.any() else region


def _is_sheet(sheet: np.ndarray, picture: np.ndarray) -> bool:
    share = sheet.mean()
    frame = np.concatenate([sheet[0], sheet[-1], sheet[:, 0], sheet[:, -1]])
    if not SHARE[0] < share < SHARE[1] or frame.mean() > MAX_CONTACT:
        return False
    if sheet.sum() < RECTANGULAR * _smallest_rectangle(np.argwhere(sheet)):
        return False
    inside, outside = np.median(picture[sheet]), np.median(picture[~sheet])
    within = sheet & ~ndimage.binary_erosion(sheet, iterations=3, border_value=1)
    beyond = ndimage.binary_dilation(sheet, iterations=3) & ~sheet
    step = np.median(picture[within]) - np.median(picture[beyond])
    contrast = inside - outside
    return bool(abs(contrast) > MIN_CONTRAST and step / contrast > MIN_STEP)


def _smallest_rectangle(points: np.ndarray) -> float:
    """The area of the smallest rectangle around pixels: one of its sides lies along their convex hull."""
    try:
        hull = points[ConvexHull(points).vertices].astype(float)
    except QhullError:
        return float("inf")
    edges = np.diff(hull, axis=0, append=hull[:1])
    along = edges / np.linalg.norm(edges, axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    return float(((np.ptp(hull @ along.T, axis=0) + 1) * (np.ptp(hull @ across.T, axis=0) + 1)).min())
