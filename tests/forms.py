"""The forms in which images may be sent to a registered model, and what becomes of each."""

import base64
import io
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

SIDE = 28
IMAGES = (np.arange(3 * SIDE * SIDE).reshape(3, SIDE, SIDE) % 256).astype(np.uint8)
PIXELS = SIDE * SIDE


def file(image: np.ndarray | Image.Image, form: str = "PNG") -> bytes:
    """A picture as the content of a file."""
    content = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(content, form)
    return content.getvalue()


def text(image: np.ndarray | Image.Image, form: str = "PNG") -> str:
    """The same as base64 text."""
    return base64.b64encode(file(image, form)).decode()


def unwritable(images: np.ndarray) -> np.ndarray:
    """A copy that may only be read."""
    copy = images.copy()
    copy.flags.writeable = False
    return copy


PICTURE = Image.fromarray(IMAGES[0])
ONE = text(IMAGES[0])
RAGGED = [IMAGES[0].tolist(), IMAGES[1, :20].tolist()]

# What JSON can hold: each name with what is sent and, where it is refused, a part of the sentence that says why.
AS_JSON: dict[str, tuple[Any, str]] = {
    "lists": (IMAGES.tolist(), ""),
    "one image without the outer list": (IMAGES[0].tolist(), ""),
    "lists of all pixels": (IMAGES.reshape(-1, PIXELS).tolist(), ""),
    "with a channel behind": (IMAGES[..., None].tolist(), ""),
    "with a channel in front": (IMAGES[:, None].tolist(), ""),
    "PNG": ([ONE, ONE], ""),
    "one PNG without the list": (ONE, ""),
    "PNG with a prefix": ([f"data:image/png;base64,{ONE}"], ""),
    "PNG in lines": ([f"{ONE[:76]}\n{ONE[76:]}\n"], ""),
    "JPEG": ([text(PICTURE, "JPEG")], ""),
    "JPEG with a prefix": ([f"data:image/jpeg;base64,{text(PICTURE, 'JPEG')}"], ""),
    "colours": ([text(PICTURE.convert("RGB"))], ""),
    "a palette": ([text(PICTURE.convert("P"))], ""),
    "black and white": ([text(PICTURE.convert("1"))], ""),
    "opaque alpha": ([text(PICTURE.convert("RGBA"))], ""),
    "alpha": ([ONE, text(Image.new("RGBA", (SIDE, SIDE)))], "image 2 of 2 is transparent"),
    "grey with alpha": ([text(Image.new("LA", (SIDE, SIDE)))], "is transparent"),
    "16 bit": ([text(np.zeros((SIDE, SIDE), np.uint16))], "has 16 bits a colour: save it with 8"),
    "another size": ([text(np.zeros((29, SIDE), np.uint8))], "is 29 x 28 px: resize it to 28 x 28"),
    "lists of another size": (np.zeros((2, 8, 8), int).tolist(), "are 8 x 8 px: resize them to 28 x 28"),
    "GIF": ([text(PICTURE, "GIF")], "is a GIF file: send a PNG or JPEG file"),
    "a PDF": ([base64.b64encode(b"%PDF-1.7 and so on").decode()], "is no picture: send a PNG or JPEG file"),
    "words": (["hello, this is no picture"], "is no base64 text"),
    "empty text": ([""], "is empty text"),
    "a file cut short": ([base64.b64encode(file(IMAGES[0])[:-40]).decode()], "is damaged or cut short"),
    "files and numbers": ([ONE, 7], "image 2 of 2 is of type int"),
    "an empty batch": ([], "the batch is empty"),
    "an empty image": ([[]], "the batch is empty"),
    "pixels in [0, 1]": ((IMAGES / 255).tolist(), "pixels in [0, 1] must be multiplied by 255 and rounded"),
    "fractions": ((IMAGES * 0.7).tolist(), "there are fractions (float64): round them"),
    "too large": ((IMAGES.astype(int) + 256).tolist(), "the numbers go from 256 to 511"),
    "negative": ((IMAGES.astype(int) - 1).tolist(), "the numbers go from -1 to 254"),
    "images that differ": (RAGGED, "the images differ in size"),
    "an infinite value": ([[[1e999] * SIDE] * SIDE], "values missing or infinite"),
    "values missing": ([[[None] * SIDE] * SIDE], "something that is no number"),
    "truth values": ((IMAGES > 9).tolist(), "truth values (bool)"),
    "three colours": (np.zeros((1, SIDE, SIDE, 3), int).tolist(), "have three colours: make them grey"),
    "a number": (7, "is of type int"),
    "an object": ({"picture": 7}, "is of type dict"),
}
# What there is in Python besides.
IN_PYTHON: dict[str, tuple[Any, str]] = {
    "array": (IMAGES, ""),
    "array of int64": (IMAGES.astype(np.int64), ""),
    "array of objects": (IMAGES.astype(object), ""),
    "read-only array": (unwritable(IMAGES), ""),
    "transposed array": (IMAGES.transpose(0, 2, 1), ""),
    "one image": (IMAGES[0], ""),
    "frame of pixels": (pd.DataFrame(IMAGES.reshape(-1, PIXELS)), ""),
    "frame of files": (pd.DataFrame({"image": [ONE, ONE]}), ""),
    "frame of lists": (pd.DataFrame({"image": [image.tolist() for image in IMAGES]}), ""),
    "series of files": (pd.Series([ONE, ONE]), ""),
    "content of files": ([file(IMAGES[0])], ""),
    "frame with a label": (pd.DataFrame(np.zeros((2, PIXELS + 1), int)), "has 785 columns: give it 784"),
    "frame of fractions": (pd.DataFrame(IMAGES.reshape(-1, PIXELS) / 255), "multiplied by 255"),
    "empty frame": (pd.DataFrame(), "the frame is empty"),
    "empty array": (IMAGES[:0], "the batch is empty"),
    "array of float32": (IMAGES.astype(np.float32), "there are fractions (float32)"),
    "array of text": (IMAGES.astype(str), "no numbers"),
    "not a number": (np.full((1, SIDE, SIDE), np.nan), "values missing"),
}
FORMS = AS_JSON | IN_PYTHON
# Of these the pixels are not the same to the bit.
NEAR = ("JPEG", "JPEG with a prefix", "black and white", "a palette")
