"""What may be sent to a registered model, as images: arrays, lists, frames, and PNG or JPEG files as text.

Registered models carry a copy of this file: it imports nothing of this project. Everything that is no image of the
model's kind is refused with a sentence that says what it is, never rounded or resized.
"""

import base64
import binascii
import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageOps, UnidentifiedImageError

Shape = tuple[int, int] | tuple[None, None]

# Before anything is unpacked: a small file can promise a picture that fills the memory.
MAX_PIXELS = 64_000_000
# In a PNG file, where the bits of a colour stand: the library would cut 16 of them to 8 unasked.
PNG, BITS_AT = b"\x89PNG\r\n\x1a\n", 24


class NotAnImage(ValueError):
    """What was sent is no image that the model takes; the text says what it is and what to do."""


def read(sent: Any, shape: Shape) -> np.ndarray:
    """Everything that may be sent, as images uint8 (N, height, width), 0 black to 255 white.

    Args:
        sent: whole numbers from 0 to 255 as an array or nested lists (N, height, width), (N, height, width, 1) or
            (N, 1, height, width), or of one image (height, width); a frame with a column a pixel and a row an image,
            or with one column of images; or PNG and JPEG files, as bytes or base64 text, one or several.
        shape: height and width that the model takes; None, None where it takes any.

    Raises:
        NotAnImage: it is something else.
    """
    if isinstance(sent, pd.DataFrame):
        sent = from_frame(sent, shape)
    elif isinstance(sent, (str, bytes)):
        sent = [sent]
    elif not isinstance(sent, (list, tuple, pd.Series)) and not hasattr(sent, "__array__"):
        raise NotAnImage(f"what was sent is of type {type(sent).__name__}")
    several = list(sent) if isinstance(sent, (list, tuple, pd.Series)) else None
    if several is None and np.asarray(sent).dtype == object:
        # An array of objects is a list by another name.
        several = np.atleast_1d(sent).tolist()
    if several is not None and not several:
        raise NotAnImage("the batch is empty: send at least one image")
    if several is not None and any(isinstance(part, (str, bytes)) for part in several):
        return from_files(several, shape)
    return from_numbers(sent if several is None else several, shape)


def from_frame(frame: pd.DataFrame, shape: Shape) -> np.ndarray | list:
    """The images of a frame: a column a pixel, or one column with all of it."""
    if frame.empty:
        raise NotAnImage("the frame is empty: send at least one row")
    if len(frame.columns) == 1:
        return frame.iloc[:, 0].tolist()
    height, width = shape
    if height is None or width is None:
        raise NotAnImage("a frame with a column a pixel does not tell the size of its images: send arrays or files")
    if len(frame.columns) != height * width:
        label = ", without the label" if len(frame.columns) == height * width + 1 else ""
        raise NotAnImage(
            f"the frame has {len(frame.columns)} columns: give it {height * width}, one a pixel and row by row{label}"
        )
    kinds = {kind.kind if isinstance(kind, np.dtype) else "O" for kind in frame.dtypes}
    # Of columns of several kinds an array would have one that all fit in, floats for example.
    return frame.to_numpy() if len(kinds) == 1 else frame.to_numpy(object).tolist()


def from_numbers(sent: Any, shape: Shape) -> np.ndarray:
    """Whole numbers as images."""
    try:
        images = np.asarray(sent)
    except (ValueError, OverflowError) as error:
        raise NotAnImage("the images differ in size, or a row in length") from error
    check_numbers(images)
    height, width = shape
    if images.ndim == 4 and 1 in (images.shape[1], images.shape[3]):
        images = images.squeeze(3 if images.shape[3] == 1 else 1)
    elif images.ndim == 4 and 3 in (images.shape[1], images.shape[3]):
        raise NotAnImage("the images have three colours: make them grey")
    elif images.ndim == 2 and height and width and images.shape[1] == height * width:
        images = images.reshape(-1, height, width)
    elif images.ndim == 2 and (height is None or images.shape == shape):
        images = images[None]
    if images.ndim != 3:
        raise NotAnImage(f"what was sent has the shape {images.shape}")
    if height and images.shape[1:] != shape:
        raise NotAnImage(f"the images are {images.shape[1]} x {images.shape[2]} px: resize them to {height} x {width}")
    if images.min() < 0 or images.max() > 255:
        raise NotAnImage(f"the numbers go from {images.min()} to {images.max()}")
    # A copy of what may not be written, which torch warns of.
    return np.require(images, np.uint8, ["C", "W"])


def check_numbers(images: np.ndarray) -> None:
    """Refuse what is no array of whole numbers.

    Raises:
        NotAnImage: what it is instead.
    """
    if not images.size:
        raise NotAnImage("the batch is empty: send at least one image")
    if np.issubdtype(images.dtype, np.integer):
        return
    kinds = {"f": "fractions", "b": "truth values", "c": "complex numbers", "O": "something that is no number"}
    what = kinds.get(images.dtype.kind, "no numbers")
    if images.dtype.kind != "f":
        raise NotAnImage(
            f"there are {what} ({images.dtype})" if what[0] != "s" else f"there is {what} ({images.dtype})"
        )
    if not np.isfinite(images).all():
        raise NotAnImage(f"there are values missing or infinite ({images.dtype})")
    if images.min() >= 0 and images.max() <= 1:
        raise NotAnImage(
            f"there are fractions ({images.dtype}): pixels in [0, 1] must be multiplied by 255 and rounded"
        )
    raise NotAnImage(f"there are fractions ({images.dtype}): round them and make them uint8")


def from_files(files: list, shape: Shape) -> np.ndarray:
    """PNG and JPEG files, as bytes or base64 text, as grey images."""
    images: list[np.ndarray] = []
    pixels = 0
    for number, file in enumerate(files, start=1):
        try:
            image = opened(content_of(file))
            width, height = image.size
            pixels += width * height
            if None not in shape and (height, width) != shape:
                raise NotAnImage(f"is {height} x {width} px: resize it to {shape[0]} x {shape[1]}")
            if pixels > MAX_PIXELS:
                raise NotAnImage(f"is one too many: all together have more than {MAX_PIXELS:,} pixels")
            images.append(grey(image))
        except NotAnImage as error:
            raise NotAnImage(f"image {number} of {len(files)} {error}") from error
    if len({image.shape for image in images}) > 1:
        raise NotAnImage("the images differ in size")
    return np.array(images, np.uint8)


def content_of(file: object) -> bytes:
    """The bytes of a file, whether or not they come as text."""
    if isinstance(file, bytes):
        return file
    if not isinstance(file, str):
        raise NotAnImage(f"is of type {type(file).__name__}, where others are files as text")
    text = file.partition(",")[2] if file.startswith("data:") else file
    try:
        # Command-line tools break it into lines.
        content = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotAnImage("is no base64 text") from error
    if not content:
        raise NotAnImage("is empty text")
    return content


def opened(content: bytes) -> Image.Image:
    """A picture of which only the head has been read."""
    try:
        image = Image.open(io.BytesIO(content))
    except UnidentifiedImageError as error:
        raise NotAnImage("is no picture: send a PNG or JPEG file") from error
    except Exception as error:
        # Arbitrary bytes make the reader fail in arbitrary ways.
        raise NotAnImage("is damaged, or promises too large a picture") from error
    if image.format not in ("PNG", "JPEG"):
        raise NotAnImage(f"is a {image.format} file: send a PNG or JPEG file")
    if content.startswith(PNG) and content[BITS_AT] > 8:
        raise NotAnImage(f"has {content[BITS_AT]} bits a colour: save it with 8")
    return image


def grey(image: Image.Image) -> np.ndarray:
    """The pixels of a picture, as whole as it is promised to be."""
    try:
        upright = ImageOps.exif_transpose(image)
        see_through = "transparency" in upright.info or upright.mode in ("LA", "PA", "RGBA")
        if see_through and upright.convert("RGBA").getchannel("A").getextrema() != (255, 255):
            raise NotAnImage("is transparent in places, so that it has no one colour there: lay it on a black ground")
        # What is opaque everywhere loses nothing.
        return np.asarray((upright.convert("RGB") if see_through else upright).convert("L"))
    except NotAnImage:
        raise
    except Exception as error:
        raise NotAnImage("is damaged or cut short") from error
