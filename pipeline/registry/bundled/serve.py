"""The registered model: raw images in, class probabilities or boxes out.

MLflow keeps this file with the model and runs it where the model is loaded; beside it lie copies of the architecture's
file and of preprocess.py, the weights and a description. So it imports nothing of this project.
"""

import base64
import importlib.util
import io
import json
from pathlib import Path
from types import ModuleType

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from PIL import Image
from safetensors.torch import load_file

BATCH = 256
PNG = b"\x89PNG\r\n\x1a\n"
# Bits of a colour, and its kind: grey, RGB, palette.
OPAQUE = [bytes([bits, kind]) for bits in (1, 2, 4, 8) for kind in (0, 2, 3)]
MAX_PIXELS = 64_000_000


class ImageModel(mlflow.pyfunc.PythonModel):
    """Answers for uint8 images (N, height, width), 0 black to 255 white, or for as many PNG files as base64 text.

    A classifier gives class probabilities, float32 (N, classes). A detector takes images of any one size and gives a
    table, one row a box, the best of an image first: the image's position, x1, y1, x2 and y2 in pixels, the label and
    the score; with the parameter `min_score` only boxes of at least that score.
    """

    def load_context(self, context) -> None:
        folder = Path(context.artifacts["bundle"])
        about = json.loads((folder / "model.json").read_text())
        self.shape = (about["height"], about["width"])
        self.classes = np.array(about["classes"])
        self.answer = {"classification": self.probabilities, "detection": self.boxes}[about["task"]]
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = load_module(folder / "architecture.py").build(**about["arguments"])
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        preprocess = load_module(folder / "preprocess.py").Preprocess(**about["preprocess"])
        temperature = Temperature(about.get("calibration", {}).get("temperature", 1.0))
        parts = [preprocess, network] if about["task"] == "detection" else [preprocess, network, temperature]
        self.network = torch.nn.Sequential(*parts).eval().to(self.device)

    def predict(self, context, model_input: np.ndarray, params=None) -> np.ndarray | pd.DataFrame:
        images = torch.from_numpy(checked(model_input, self.shape))
        with torch.inference_mode():
            found = torch.cat([self.network(part.to(self.device)).cpu() for part in images.split(BATCH)])
        return self.answer(found, **(params or {}))

    def probabilities(self, logits: torch.Tensor) -> np.ndarray:
        return logits.softmax(1).numpy()

    def boxes(self, found: torch.Tensor, min_score: float = 0.0) -> pd.DataFrame:
        image, row = torch.where((found[:, :, 5] >= 0) & (found[:, :, 4] >= min_score))
        *sides, scores, labels = found[image, row].double().T.numpy()
        columns = {"image": image.numpy(), **dict(zip(("x1", "y1", "x2", "y2"), sides, strict=True))}
        return pd.DataFrame({**columns, "label": self.classes[labels.astype(int)], "score": scores})


class Temperature(torch.nn.Module):
    """Divide logits, so that their softmax is as often right as it says."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.temperature = temperature

    def forward(self, logits: torch.Tensor) -> torch.Tensor:
        return logits / self.temperature


def load_module(path: Path) -> ModuleType:
    """Run a file as a module that nothing else can import, so that no name on the path can take its place."""
    spec = importlib.util.spec_from_file_location(f"_registered_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(images, shape: tuple[int | None, int | None]) -> np.ndarray:
    """Whole numbers from 0 to 255 of shape (N, height, width) as uint8; anything else is refused, never rounded.

    JSON arrives here as Python numbers: a signature of uint8 would have had them cut to whole ones before.
    """
    height, width = shape[0] or "height", shape[1] or "width"
    expected = f"This model takes whole numbers from 0 to 255 of shape (N, {height}, {width})"
    if not isinstance(images, np.ndarray):
        raise MlflowException.invalid_parameter_value(f"{expected}, as a numpy array, not {type(images).__name__}.")
    if images.dtype == object and images.ndim == 1 and all(isinstance(image, str) for image in images):
        images = decoded(images, shape, expected)
    if images.dtype == object:
        try:
            images = np.array(images.tolist())
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(f"{expected}; the images differ in size.") from error
    if images.ndim != 3 or not images.size or (None not in shape and images.shape[1:] != shape):
        raise MlflowException.invalid_parameter_value(f"{expected}, not of shape {images.shape}.")
    if not np.issubdtype(images.dtype, np.integer):
        hint = ""
        if np.issubdtype(images.dtype, np.floating) and images.min() >= 0 and images.max() <= 1:
            hint = " Pixels in [0, 1] must be multiplied by 255 and rounded first."
        raise MlflowException.invalid_parameter_value(f"{expected}, not {images.dtype}.{hint}")
    if images.min() < 0 or images.max() > 255:
        raise MlflowException.invalid_parameter_value(f"{expected}, not from {images.min()} to {images.max()}.")
    return np.ascontiguousarray(images, dtype=np.uint8)


def decoded(texts, shape: tuple[int | None, int | None], expected: str) -> np.ndarray:
    """PNG files as base64 text to grey images uint8 (N, height, width).

    MLflow's server reads text much faster than lists of numbers.
    """
    images, pixels = [], 0
    for number, text in enumerate(texts):
        try:
            content = base64.b64decode(text, validate=True)
            size = tuple(int.from_bytes(content[at : at + 4], "big") for at in (20, 16))
            # Before anything is unpacked: a small file can promise a picture that fills the memory.
            pixels += size[0] * size[1]
            fits = size == shape if None not in shape else min(size) > 0 and pixels <= MAX_PIXELS
            # What is transparent has no one colour.
            opaque = content[24:26] in OPAQUE and b"tRNS" not in content.split(b"IDAT", 1)[0]
            if not content.startswith(PNG) or not fits or not opaque:
                raise ValueError("no such PNG file")
            images.append(np.asarray(Image.open(io.BytesIO(content), formats=["PNG"]).convert("L")))
        except Exception as error:
            # Arbitrary bytes make the reader fail in arbitrary ways.
            raise MlflowException.invalid_parameter_value(
                f"{expected}, or opaque PNG files of that size as base64 text; number {number} is none."
            ) from error
    if len({image.shape for image in images}) > 1:
        raise MlflowException.invalid_parameter_value(f"{expected}; the images differ in size.")
    return np.array(images, np.uint8)


mlflow.models.set_model(ImageModel())
