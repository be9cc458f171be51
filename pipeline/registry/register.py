"""Writing a trained model into the registry."""

from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import numpy as np
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from pipeline.metrics.catalog import SCORE_THRESHOLD
from pipeline.registry.versions import CHAMPION, aliased
from pipeline.tracking.client import connect

SERVED_PACKAGES = ("mlflow", "torch", "torchvision", "numpy", "pandas", "pillow", "safetensors")


def log_model(bundle: Path, *, registered_name: str, example: np.ndarray, task: str, classes: int) -> str:
    """Log the model in the open run and register it.

    Args:
        bundle: folder made by `bundle.write`.
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
        signature = ModelSignature(inputs, table, ParamSchema([ParamSpec("min_score", "double", SCORE_THRESHOLD)]))
        size = "N, H, W"
    else:
        signature = ModelSignature(inputs, Schema([TensorSpec(np.dtype(np.float32), (-1, classes))]))
        size = f"N, {example.shape[1]}, {example.shape[2]}"
    info = mlflow.pyfunc.log_model(
        name="model",
        python_model=str(Path(__file__).with_name("bundled") / "serve.py"),
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
