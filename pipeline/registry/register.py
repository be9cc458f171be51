"""Writing a trained model into the registry."""

from collections.abc import Mapping
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from pipeline.metrics.catalog import SCORE_THRESHOLD
from pipeline.registry.versions import CHAMPION, Version, version_of
from pipeline.tracking import deliver
from pipeline.tracking.client import connect, existing_is_enough
from pipeline.tracking.deliver import Delivery
from pipeline.tracking.journal import Journal, Record
from pipeline.tracking.schema import JOURNAL

# Stands in a card for the number that the registry will give.
VERSION = "{{version}}"
SERVED_PACKAGES = ("mlflow", "torch", "torchvision", "numpy", "pandas", "pillow", "safetensors")


def save_model(folder: Path, *, bundle: Path, example: np.ndarray, task: str, classes: int) -> None:
    """Save the model as MLflow has it, ready to be sent.

    Args:
        folder: made here.
        bundle: folder made by `bundle.write`.
        example: uint8 images (N, H, W).
        task, classes: what the answers are: see serve.py.
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
    mlflow.pyfunc.save_model(
        path=folder,
        python_model=str(Path(__file__).with_name("bundled") / "serve.py"),
        artifacts={"bundle": str(bundle)},
        # Without what a build for one kind of machine adds, as in 2.15.0+cpu: it can be installed nowhere else.
        pip_requirements=[f"{package}=={installed(package).partition('+')[0]}" for package in SERVED_PACKAGES],
        signature=signature,
        input_example=example,
        metadata={"input": f"uint8 ({size}), 0 black to 255 white"},
    )


def deliver_model(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Log and register the model that a journal holds, however far an earlier attempt came."""
    run = client.get_run(deliver.run_id_of(journal))
    model = logged_model(client, journal, run)
    if model.status != LoggedModelStatus.READY:
        assert record.files is not None, "a model's record has its files"
        about = Model.load(str(record.files))
        about.run_id, about.model_id, about.artifact_path = run.info.run_id, model.model_id, model.artifact_location
        about.save(str(record.files / "MLmodel"))
        client.log_model_artifacts(model.model_id, str(record.files))
        outputs = run.outputs.model_outputs if run.outputs else []
        if model.model_id not in {output.model_id for output in outputs}:
            client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
        client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    name = record.content["registered_name"]
    version = version_of(run.info.run_id, name, client=client)
    if version is None:
        # Another training of the same name may create it at the same time.
        with existing_is_enough():
            client.create_registered_model(name)
        source, run_id = f"models:/{model.model_id}", run.info.run_id
        version = Version.of(client.create_model_version(name, source, run_id, model_id=model.model_id))
    describe(name, version.number, record.content["card"].replace(VERSION, version.number), client=client)


def logged_model(client: mlflow.MlflowClient, journal: Journal, run: Run) -> LoggedModel:
    """The logged model of a journal, created where there is none yet."""
    experiment = run.info.experiment_id
    for found in client.search_logged_models([experiment], f"tags.{JOURNAL} = '{journal.key}'"):
        return found
    return client.create_logged_model(
        experiment, "model", run.info.run_id, tags={JOURNAL: journal.key}, params=run.data.params
    )


def describe(name: str, version: str, text: str, *, client: mlflow.MlflowClient | None = None) -> None:
    """Give a version its description; as long as there is no champion, the model as a whole has it, too."""
    client = client or connect()
    client.update_model_version(name, version, text)
    if CHAMPION not in client.get_registered_model(name).aliases:
        client.update_registered_model(name, text)


# What is to be done with the records of a training's journal.
DELIVERIES: Mapping[str, Delivery] = {**deliver.DELIVERIES, "model": deliver_model}
