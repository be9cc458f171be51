"""Loading registered models, from a registry that is trusted."""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import numpy as np
from mlflow.exceptions import MlflowException
from mlflow.models import Model
from scipy.special import log_softmax

from pipeline.errors import InputError, Refusal, first_line
from pipeline.metrics.calibration import Calibration
from pipeline.registry.versions import Version, find

if TYPE_CHECKING:
    from torch import nn

# In a list of trusted registries: the one that the environment names.
CONFIGURED = "configured"
# With at least two letters: one is a drive.
SCHEME = re.compile(r"[A-Za-z][\w+.-]+:")
BATCH = 256


@dataclass(frozen=True)
class RegisteredModel:
    """A loaded model.

    Attributes:
        uri: `models:/NAME/VERSION`, or where else it was loaded from.
        version: its entry in the registry, None where it is not in one.
        architecture, task, task_args, classes: as it was trained.
        shape: height and width of its images; None, None where it takes any.
        network: from images (N, H, W) with values 0 to 255 to logits (N, classes), or to boxes (N, K, 6) as
            `models/faster_rcnn.py` describes them. Its probabilities are calibrated.
        calibration: what makes them so, and from which probability on an answer is sure.
    """

    uri: str
    version: Version | None
    architecture: str
    task: str
    task_args: Mapping[str, Any]
    classes: tuple[str, ...]
    shape: tuple[int, int] | tuple[None, None]
    network: "nn.Module"
    calibration: Calibration = field(default_factory=Calibration)

    @property
    def label(self) -> str:
        """What people call it."""
        return str(self.version or self.uri)

    def answer(self, images: np.ndarray) -> np.ndarray:
        """What the network gives for uint8 images (N, H, W), in batches."""
        import torch

        # Its preprocessing has no parameters, but every network has.
        device = next(self.network.parameters()).device
        with torch.inference_mode():
            batches = torch.from_numpy(np.ascontiguousarray(images)).split(BATCH)
            return torch.cat([self.network(batch.to(device)).cpu() for batch in batches]).numpy()

    @property
    def uncalibrated(self) -> "RegisteredModel":
        """The same, with the probabilities of a classifier as they were in its training."""
        from torch.nn import Sequential

        if self.task == "detection":
            return self
        *before, last = self.network.children()
        # Those of version 0.2 end in their temperature.
        network = Sequential(*before, *(module for name, module in last.named_children() if name == "network"))
        return replace(self, network=network, calibration=Calibration())

    def log_probabilities(self, found: np.ndarray) -> np.ndarray:
        """What images were taken for, from its answers: (N, classes), for a detector with "nothing" as the last."""
        if self.task == "detection":
            from pipeline.metrics.detection import classify

            return classify(found, len(self.classes))
        return log_softmax(found, axis=1)


def check_trust(uri: str, trusted: Sequence[str]) -> None:
    """Refuse models from elsewhere than the trusted registries: loading one runs the code that came with it.

    Raises:
        Refusal: it is not trusted.
    """
    configured = mlflow.get_registry_uri()
    home = configured if re.match(r"(models|runs):/(?!/)", uri) else normal(uri)
    allowed = [configured if place == CONFIGURED else normal(place) for place in trusted]
    if ".." in home.split("/") or not any(
        home == place or home.startswith(f"{place.rstrip('/')}/") for place in allowed
    ):
        raise Refusal(
            f"Loading {uri} would run code that came with it, and {home} is not trusted: "
            f"if it is, say --trust {','.join([*trusted, home])}."
        )


def normal(place: str) -> str:
    """A registry's or folder's address, written in one way."""
    if place.startswith("file:"):
        place = url2pathname(urlsplit(place).path)
    return place if re.match(SCHEME, place) else str(Path(place).expanduser().resolve())


def download(uri: str, folder: Path) -> Path:
    """Fetch a model made by this project; nothing of it is run.

    Raises:
        InputError: there is no such model, or another program made it.
    """
    try:
        model = Path(mlflow.artifacts.download_artifacts(artifact_uri=of_a_run(uri), dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"The registered model {uri} cannot be loaded from {mlflow.get_tracking_uri()}: {first_line(error)}."
        ) from error
    for name in ("weights.safetensors", "model.json"):
        if not list(model.glob(f"artifacts/*/**/{name}")):
            raise InputError(f"The registered model {uri} was not made by this project: it has no {name}.")
    return model


def of_a_run(uri: str) -> str:
    """`runs:/ID/model` as the only model that the run logged, whatever it is called; other addresses as they are."""
    if match := re.fullmatch(r"runs:/(\w+)/model", uri):
        outputs = mlflow.MlflowClient().get_run(match[1]).outputs
        if outputs and outputs.model_outputs:
            return f"models:/{outputs.model_outputs[0].model_id}"
    return uri


def download_weights(uri: str, folder: Path) -> Path:
    """Fetch the weights file of a registered model, as `download` does."""
    return next(download(uri, folder).glob("artifacts/*/weights.safetensors"))


def load(uri: str, *, trusted: Sequence[str] = (CONFIGURED,)) -> RegisteredModel:
    """Load a model that this project registered; an alias is resolved once.

    Args:
        uri: `models:/NAME@ALIAS`, `models:/NAME/VERSION`, `runs:/ID/model`, or a folder with a model.
        trusted: registries and folders whose models' code may run.

    Raises:
        Refusal: it comes from elsewhere.
        InputError: there is no such model, or another program made it.
    """
    # Before trust is asked for in what is only a slip of the pen.
    named = uri.startswith("models:") or not (re.match(SCHEME, uri) or Path(uri).expanduser().exists())
    version = find(uri) if named else None
    check_trust(uri, trusted)
    uri = version.uri if version else uri
    with tempfile.TemporaryDirectory() as folder:
        path = download(uri, Path(folder))
        try:
            flavor = Model.load(path).flavors.get("python_function", {})
        except MlflowException:
            flavor = {}
        # Of other kinds of model MLflow would unpickle a file.
        if "model_code_path" not in flavor:
            raise InputError(f"The registered model {uri} was not made by this project: it has no code of its own.")
        about = json.loads(next(path.glob("artifacts/*/model.json")).read_text())
        network = mlflow.pyfunc.load_model(str(path), suppress_warnings=True).unwrap_python_model().network
    return RegisteredModel(
        uri=uri,
        version=version,
        architecture=about["model"],
        task=about["task"],
        # Models of before it was kept were made with the defaults, or cannot tell.
        task_args=about.get("task_args", {}),
        classes=tuple(about["classes"]),
        shape=(about["height"], about["width"]),
        network=network,
        # Models of before it was measured call no answer unsure.
        calibration=Calibration(**about.get("calibration", {})),
    )
