"""The registered model: raw images in, class probabilities or boxes out.

MLflow keeps this file with the model and runs it where the model is loaded; beside it lie copies of the architecture's
file, of preprocess.py, of calibrated.py and of inputs.py, the weights and a description. So it imports nothing of this
project.
"""

import importlib.util
import json
from functools import partial
from pathlib import Path
from types import ModuleType

import mlflow
import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import load_file

BATCH = 256


class ImageModel(mlflow.pyfunc.PythonModel):
    """Answers for uint8 images (N, height, width), 0 black to 255 white, in any of the forms that inputs.py reads.

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
        self.network = load_network(folder).eval().to(self.device)
        self.inputs = load_module(folder / "inputs.py")

    def predict(self, context, model_input: np.ndarray, params=None) -> np.ndarray | pd.DataFrame:
        # Of whatever form: a type that MLflow does not know it would ask to be told.
        images = torch.from_numpy(self.read(model_input))
        with torch.inference_mode():
            found = torch.cat([self.network(part.to(self.device)).cpu() for part in images.split(BATCH)])
        return self.answer(found, **(params or {}))

    def read(self, sent) -> np.ndarray:
        try:
            return self.inputs.read(sent, self.shape)
        except self.inputs.NotAnImage as error:
            height, width = self.shape[0] or "height", self.shape[1] or "width"
            raise MlflowException.invalid_parameter_value(
                f"This model takes whole numbers from 0 to 255 of shape (N, {height}, {width}), or PNG and JPEG files "
                f"of that size as base64 text; {error}."
            ) from error

    def probabilities(self, logits: torch.Tensor) -> np.ndarray:
        return logits.softmax(1).numpy()

    def boxes(self, found: torch.Tensor, min_score: float = 0.0) -> pd.DataFrame:
        image, row = torch.where((found[:, :, 5] >= 0) & (found[:, :, 4] >= min_score))
        *sides, scores, labels = found[image, row].double().T.numpy()
        columns = {"image": image.numpy(), **dict(zip(("x1", "y1", "x2", "y2"), sides, strict=True))}
        return pd.DataFrame({**columns, "label": self.classes[labels.astype(int)], "score": scores})


def load_network(folder: Path) -> torch.nn.Module:
    """The network of a folder, from images to logits or boxes; of a folder of several, their vote."""
    about = json.loads((folder / "model.json").read_text())
    calibrated = partial(
        load_module(folder / "calibrated.py").Calibrated, temperature=about["calibration"]["temperature"]
    )
    if "members" in about:
        return torch.nn.Sequential(
            calibrated(Vote([load_network(folder / "members" / one) for one in about["members"]]))
        )
    network = load_module(folder / "architecture.py").build(**about["arguments"])
    network.load_state_dict(load_file(folder / "weights.safetensors"))
    preprocess = load_module(folder / "preprocess.py").Preprocess(**about["preprocess"])
    if about["task"] == "classification":
        network = calibrated(network, typical=load_file(folder / "typical.safetensors"))
    return torch.nn.Sequential(preprocess, network)


class Vote(torch.nn.Module):
    """Logarithms of the mean of several networks' probabilities."""

    def __init__(self, members: list[torch.nn.Module]) -> None:
        super().__init__()
        self.members = torch.nn.ModuleList(members)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([member(images).softmax(1) for member in self.members]).mean(0).log()


def load_module(path: Path) -> ModuleType:
    """Run a file as a module that nothing else can import, so that no name on the path can take its place."""
    spec = importlib.util.spec_from_file_location(f"_registered_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mlflow.models.set_model(ImageModel())
