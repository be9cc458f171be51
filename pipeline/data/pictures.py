"""Grey images as PNG files, for pages."""

import base64
import io

import numpy as np
from PIL import Image


def png(image: np.ndarray) -> bytes:
    """A grey image, uint8 (H, W), as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def data_uri(image: np.ndarray) -> str:
    """A grey image as an address that contains it, for a page."""
    return f"data:image/png;base64,{base64.b64encode(png(image)).decode()}"
