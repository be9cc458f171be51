"""The registered model: raw images in, class probabilities out.

MLflow keeps this file with the model and runs it where the model is loaded; beside it lie copies of the architecture's
file and of preprocess.py, the weights and a description. So it imports nothing of this project.
"""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file

BATCH = 256


class ImageClassifier(mlflow.pyfunc.PythonModel):
    """Class probabilities, float32 (N, classes), for uint8 images (N, height, width), 0 black to 255 white."""

    def load_context(self, context) -> None:
        folder = Path(context.artifacts["bundle"])
        about = json.loads((folder / "model.json").read_text())
        self.shape = (about["height"], about["width"])
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = load_module(folder / "architecture.py").build(**about["arguments"])
        network.load_state_dict(load_file(folder / "weights.safetensors"))
        preprocess = load_module(folder / "preprocess.py").Preprocess(**about["preprocess"])
        self.network = torch.nn.Sequential(preprocess, network).eval().to(self.device)

    def predict(self, context, model_input: np.ndarray, params=None) -> np.ndarray:
        images = torch.from_numpy(checked(model_input, self.shape))
        with torch.inference_mode():
            parts = [self.network(part.to(self.device)).softmax(1).cpu() for part in images.split(BATCH)]
        return torch.cat(parts).numpy()


def load_module(path: Path) -> ModuleType:
    """Run a file as a module that nothing else can import, so that no name on the path can take its place."""
    spec = importlib.util.spec_from_file_location(f"_registered_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checked(images, shape: tuple[int, int]) -> np.ndarray:
    """Whole numbers from 0 to 255 of shape (N, height, width) as uint8; anything else is refused, never rounded.

    JSON arrives here as Python numbers: a signature of uint8 would have had them cut to whole ones before.
    """
    expected = f"This model takes whole numbers from 0 to 255 of shape (N, {shape[0]}, {shape[1]})"
    if not isinstance(images, np.ndarray):
        raise MlflowException.invalid_parameter_value(f"{expected}, as a numpy array, not {type(images).__name__}.")
    if images.dtype == object:
        try:
            images = np.array(images.tolist())
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(f"{expected}; the images differ in size.") from error
    if images.ndim != 3 or images.shape[1:] != shape or not len(images):
        raise MlflowException.invalid_parameter_value(f"{expected}, not of shape {images.shape}.")
    if not np.issubdtype(images.dtype, np.integer):
        hint = ""
        if np.issubdtype(images.dtype, np.floating) and images.min() >= 0 and images.max() <= 1:
            hint = " Pixels in [0, 1] must be multiplied by 255 and rounded first."
        raise MlflowException.invalid_parameter_value(f"{expected}, not {images.dtype}.{hint}")
    if images.min() < 0 or images.max() > 255:
        raise MlflowException.invalid_parameter_value(f"{expected}, not from {images.min()} to {images.max()}.")
    return np.ascontiguousarray(images, dtype=np.uint8)


mlflow.models.set_model(ImageClassifier())
