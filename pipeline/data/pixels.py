"""Arrays of numbers as images: which axes they have, whether their values are pixels, and whether there is room."""

import math

import numpy as np
import psutil

from pipeline.errors import InputError

MAX_SIDE = 4096
# What red, green and blue add to brightness: ITU-R BT.601, as Pillow has it.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def image_size(shape: tuple[int, ...], name: str) -> tuple[int, int]:
    """Height and width of the images in an array: (N, H, W), (N, H, W, 1 or 3), (N, 1, H, W), or (N, H * H).

    Raises:
        InputError: another shape; the text begins with the name.
    """
    if len(shape) == 3 and 1 in shape[1:] and max(shape[1:]) > 1:
        # A row of pixels each, with an axis for a channel.
        shape = shape[0], max(shape[1:])
    if len(shape) == 2 and (side := math.isqrt(shape[1])) > 1 and side**2 == shape[1]:
        return side, side
    if len(shape) == 3:
        return shape[1], shape[2]
    if len(shape) == 4 and shape[3] in (1, 3):
        return shape[1], shape[2]
    if len(shape) == 4 and shape[1] == 1:
        return shape[2], shape[3]
    axes = " x ".join(f"{side:,}" for side in shape) or "none"
    raise InputError(
        f"{name} has the axes {axes}: images are (N, height, width), also with 1 or 3 channels as the last axis, or "
        "(N, height * height)."
    )


def as_images(array: np.ndarray, name: str) -> np.ndarray:
    """Images of any of these shapes as uint8 (N, H, W): colour becomes grey, true becomes white.

    Raises:
        InputError: another shape, or values that are no pixels; the text begins with the name.
    """
    height, width = image_size(array.shape, name)
    pixels = as_pixels(array, name)
    if pixels.ndim == 4 and pixels.shape[3] == 3:
        pixels = np.rint(pixels @ LUMA).astype(np.uint8)
    return pixels.reshape(-1, height, width)


def as_pixels(values: np.ndarray, name: str) -> np.ndarray:
    """Whole numbers from 0 to 255, or true and false, as uint8.

    Raises:
        InputError: other values.
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values * np.uint8(255)
    if values.dtype.kind not in "iuf":
        raise InputError(f"{name} holds {values.dtype}: pixels are whole, 0 to 255.")
    if values.size and not (values.min() >= 0 and values.max() <= 255 and (values == np.rint(values)).all()):
        if np.isnan(values).any():
            raise InputError(f"{name} lacks some of its values: pixels are whole, 0 to 255.")
        hint = ": multiply them by 255 and round" if values.min() >= 0 and values.max() <= 1 else ""
        found = f"values from {values.min():g} to {values.max():g}"
        raise InputError(f"{name} holds {found}, but pixels are whole, 0 to 255{hint}.")
    return values.astype(np.uint8)


def check_room(count: int, height: int, width: int, source: str) -> None:
    """Refuse images of an absurd size, or more than this machine can hold, before they are read.

    Raises:
        InputError: how large they are.
    """
    if not (0 < height <= MAX_SIDE and 0 < width <= MAX_SIDE):
        raise InputError(f"{source} has images of {height:,} x {width:,} px: at most {MAX_SIDE:,} a side are read.")
    free = psutil.virtual_memory().available
    # A training holds its part of them beside the whole.
    if 2 * count * height * width > free:
        raise InputError(
            f"{source} has {count:,} images of {height:,} x {width:,} px, {count * height * width / 1e9:,.1f} GB: "
            f"twice that is needed, {free / 1e9:,.1f} GB are free; take fewer or smaller ones (side)."
        )
