"""Registered models in MLflow: how they are written, found, described, and loaded from a registry that is trusted."""

import getpass
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version as installed
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
import numpy as np
from filelock import FileLock
from mlflow.entities import LoggedModelInput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from scipy.special import log_softmax

from pipeline.errors import InputError, Refusal, first_line
from pipeline.names import short_hash
from pipeline.tracking.client import connect

if TYPE_CHECKING:
    from torch import nn

CHAMPION, PREVIOUS = "champion", "previous-champion"
# In a list of trusted registries: the one that the environment names.
CONFIGURED = "configured"

SERVED_PACKAGES = ("mlflow", "torch", "torchvision", "numpy", "pandas", "pillow", "safetensors")
# Boxes that a served detector keeps to itself unless asked for them: more likely wrong than right.
LEAST_SERVED_SCORE = 0.5
BATCH = 256


@dataclass(frozen=True)
class Version:
    """An entry in the registry: its model's name, its number there, the run that made it if any, its description."""

    name: str
    number: str
    run_id: str
    model_id: str
    description: str

    @classmethod
    def of(cls, entry: ModelVersion) -> "Version":
        """From MLflow's, whose number is text or not, as the store has it."""
        # The logged model is named by where it is: models:/m-...
        model_id = entry.model_id or (entry.source or "").removeprefix("models:/")
        return cls(entry.name, str(entry.version), entry.run_id or "", model_id, entry.description or "")

    @property
    def uri(self) -> str:
        """Where it is, whatever alias it has."""
        return f"models:/{self.name}/{self.number}"

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


@dataclass(frozen=True)
class RegisteredModel:
    """A loaded model.

    Attributes:
        uri: `models:/NAME/VERSION`, or where else it was loaded from.
        version: its entry in the registry, None where it is not in one.
        architecture, task, task_args, classes: as it was trained.
        shape: height and width of its images; None, None where it takes any.
        network: from images (N, H, W) with values 0 to 255 to logits (N, classes), or to boxes (N, K, 6) as
            `models/faster_rcnn.py` describes them.
    """

    uri: str
    version: Version | None
    architecture: str
    task: str
    task_args: Mapping[str, Any]
    classes: tuple[str, ...]
    shape: tuple[int, int] | tuple[None, None]
    network: "nn.Module"

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

    def log_probabilities(self, found: np.ndarray) -> np.ndarray:
        """What images were taken for, from its answers: (N, classes), for a detector with "nothing" as the last."""
        if self.task == "detection":
            from pipeline.metrics.detection import classify

            return classify(found, len(self.classes))
        return log_softmax(found, axis=1)


# --- Writing -------------------------------------------------------------------------------------------------------


def log_model(bundle: Path, *, registered_name: str, example: np.ndarray, task: str, classes: int) -> str:
    """Log the model in the open run and register it.

    Args:
        bundle: folder made by `pipeline.bundle.write`.
        example: uint8 images (N, H, W).
        task, classes: what the answers are: see serve.py.

    Returns:
        the registered version.
    """
    # An object tensor reaches serve.py as it is; one of uint8 would be cut to whole numbers by MLflow's server.
    inputs = Schema([TensorSpec(np.dtype(object), (-1,))])
    if task == "detection":
        sides = [ColSpec("double", side) for side in ("x1", "y1", "x2", "y2")]
        table = Schema([ColSpec("long", "image"), *sides, ColSpec("string", "label"), ColSpec("double", "score")])
        signature = ModelSignature(inputs, table, ParamSchema([ParamSpec("min_score", "double", LEAST_SERVED_SCORE)]))
        size = "N, H, W"
    else:
        signature = ModelSignature(inputs, Schema([TensorSpec(np.dtype(np.float32), (-1, classes))]))
        size = f"N, {example.shape[1]}, {example.shape[2]}"
    info = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("serve.py")),
        artifacts={"bundle": str(bundle)},
        pip_requirements=[f"{package}=={installed(package)}" for package in SERVED_PACKAGES],
        signature=signature,
        input_example=example,
        registered_model_name=registered_name,
        metadata={"input": f"uint8 ({size}), 0 black to 255 white"},
    )
    return str(info.registered_model_version)


def describe(name: str, version: str, text: str) -> None:
    """Give a version its description; as long as there is no champion, the model as a whole has it, too."""
    connect().update_model_version(name, version, text)
    if aliased(name, CHAMPION) is None:
        connect().update_registered_model(name, text)


def tag(version: Version, prefix: str, tags: Mapping[str, str]) -> None:
    """Give a version tags whose names begin with a prefix, in place of all others that do."""
    for key in connect().get_model_version(version.name, version.number).tags:
        if key.startswith(prefix) and key.removeprefix(prefix) not in tags:
            connect().delete_model_version_tag(version.name, version.number, key)
    for key, value in tags.items():
        connect().set_model_version_tag(version.name, version.number, prefix + key, value)


def link(version: Version, run_id: str) -> None:
    """Record that a run used this version: MLflow's pages then lead from one to the other."""
    connect().log_inputs(run_id, models=[LoggedModelInput(version.model_id)])


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep this user's other processes on this machine from changing a model's aliases within the block."""
    key = short_hash({"uri": mlflow.get_registry_uri(), "name": name})
    with FileLock(Path(tempfile.gettempdir(), f"mlflow-{getpass.getuser()}-{key}.lock")):
        yield


def crown(name: str, version: str, *, former: str | None) -> None:
    """Make a version the champion, whose description the model as a whole then has, and the former one, if any, the
    previous champion.

    In this order: whoever is cut in between leaves the former champion in its place, though as its own predecessor.
    """
    if former:
        connect().set_registered_model_alias(name, PREVIOUS, former)
    connect().set_registered_model_alias(name, CHAMPION, version)
    connect().update_registered_model(name, connect().get_model_version(name, version).description)


# --- Finding -------------------------------------------------------------------------------------------------------


def version_of(run_id: str, name: str) -> Version | None:
    """The version of this name registered from a run, if any; the run's model may have other names, too."""
    found = map(Version.of, connect().search_model_versions(f"run_id = '{run_id}'"))
    return next((version for version in found if version.name == name), None)


def registered_name(dataset: str, architecture: str) -> str:
    """What the models of an architecture trained on a data set are called."""
    return f"{dataset}-{architecture}"


def names() -> list[str]:
    """All registered models."""
    found, token = [], None
    while token is None or token:
        page = connect().search_registered_models(max_results=100, page_token=token)
        found += [model.name for model in page]
        token = page.token or ""
    return found


def versions(name: str) -> list[Version]:
    """All versions of a registered model."""
    return list(map(Version.of, connect().search_model_versions(f"name = '{name}'")))


def aliased(name: str, alias: str) -> Version | None:
    """The version of a registered model that has this alias."""
    return found_or_none(lambda: connect().get_model_version_by_alias(name, alias))


def champions() -> list[Version]:
    """Every registered model's champion."""
    found = (aliased(name, CHAMPION) for name in names())
    return [version for version in found if version]


def found_or_none(look_up: Callable[[], ModelVersion]) -> Version | None:
    """What a look-up finds; a registry that does not answer is not one that has nothing."""
    try:
        return Version.of(look_up())
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def find(uri: str) -> Version:
    """The version that `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `models:/NAME/latest` means now.

    Raises:
        InputError: there is none; the text says what there is.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+|latest))", uri)
    if not match:
        raise InputError(f"'{uri}' names no registered model: write models:/NAME@ALIAS or models:/NAME/VERSION.")
    name, alias, number = match.groups()
    if number == "latest":
        found = max(versions(name), key=lambda version: int(version.number), default=None)
    elif number:
        found = found_or_none(lambda: connect().get_model_version(name, number))
    else:
        found = aliased(name, alias)
    if found:
        return found
    there = names()
    if name not in there:
        known = f"there are {', '.join(there)}" if there else "nothing is registered there yet"
        raise InputError(f"There is no registered model '{name}' at {mlflow.get_registry_uri()}: {known}.")
    aliases = [f"@{alias}" for alias in connect().get_registered_model(name).aliases]
    numbers = sorted(int(version.number) for version in versions(name))
    has = ", ".join([*aliases, f"the versions {numbers[0]} to {numbers[-1]}" if numbers else "no version"])
    hint = f": promote one with `mlflow run . -e promote -P model={name}`" if alias == CHAMPION else ""
    raise InputError(f"There is no {uri}; {name} has {has}{hint}.")


# --- Loading -------------------------------------------------------------------------------------------------------


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
    # A scheme has at least two letters: one is a drive.
    return place if re.match(r"[A-Za-z][\w+.-]+:", place) else str(Path(place).expanduser().resolve())


def download(uri: str, folder: Path) -> Path:
    """Fetch a model made by this project; nothing of it is run.

    Raises:
        InputError: there is no such model, or another program made it.
    """
    try:
        model = Path(mlflow.artifacts.download_artifacts(artifact_uri=uri, dst_path=str(folder)))
    except (MlflowException, OSError) as error:
        raise InputError(
            f"The registered model {uri} cannot be loaded from {mlflow.get_tracking_uri()}: {first_line(error)}."
        ) from error
    for name in ("weights.safetensors", "model.json"):
        if not list(model.glob(f"artifacts/*/{name}")):
            raise InputError(f"The registered model {uri} was not made by this project: it has no {name}.")
    return model


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
    check_trust(uri, trusted)
    version = find(uri) if uri.startswith("models:/") else None
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
        network = mlflow.pyfunc.load_model(str(path)).unwrap_python_model().network
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
    )
