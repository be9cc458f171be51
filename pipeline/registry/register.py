"""Writing a trained model into the registry."""

import json
import re
from collections.abc import Mapping
from functools import partial
from importlib.metadata import version as installed
from pathlib import Path

import mlflow
import numpy as np
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Run
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec

from pipeline.comparison.judging import stats
from pipeline.metrics.catalog import SCORE_THRESHOLD
from pipeline.registry.versions import Version, describe, version_of
from pipeline.tracking import deliver
from pipeline.tracking.client import existing_is_enough
from pipeline.tracking.deliver import Delivery
from pipeline.tracking.failures import create_once
from pipeline.tracking.journal import Journal, Record
from pipeline.tracking.schema import (
    ARCHITECTURE,
    DATASET,
    DATASET_SHA256,
    DEVICE,
    JOURNAL,
    LINEAGE,
    MACHINE,
    MODEL_VERSIONS,
    PROTOCOL,
    TASK,
)

# Stands in a card for the number that the registry will give.
VERSION = "{{version}}"
# What MLflow forbids in the name of a logged model.
UNNAMEABLE = re.compile(r"""[/:.%"']""")
# The tags of a training that say what its model is.
OF_A_MODEL = (ARCHITECTURE, TASK, DATASET, DATASET_SHA256, PROTOCOL, LINEAGE, DEVICE, MACHINE)
SERVED_PACKAGES = ("mlflow", "torch", "torchvision", "numpy", "pandas", "pillow", "safetensors")


def save_model(folder: Path, *, bundle: Path, example: np.ndarray, task: str, classes: int) -> None:
    """Save the model as MLflow has it, ready to be sent.

    Args:
        folder: made here.
        bundle: folder made by `bundle.write`.
        example: uint8 images (N, H, W).
        task, classes: what the answers are: see serve.py.
    """
    any_size = task == "detection"
    inputs = Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1) if any_size else (-1, *example.shape[1:]))])
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
    # Such a signature is shown and not enforced: MLflow's server would cut fractions to whole numbers by it, and refuse
    # frames and files. What was sent comes to serve.py as it is, which reads or refuses it.
    saved = Model.load(str(folder))
    saved.signature._is_signature_from_type_hint = True
    saved.save(str(folder / "MLmodel"))


def version_tags(tags: Mapping[str, str], *, accuracy: float, test_images: int) -> dict[str, str]:
    """What a version can be searched by, from the tags of its run and what it scored."""
    low, high = stats.wilson(round(accuracy * test_images), test_images)
    return {
        "accuracy": f"{accuracy:.4f}",
        "interval": f"{low:.4f} to {high:.4f}",
        "test_images": str(test_images),
        **{name: tags[name] for name in OF_A_MODEL if name in tags},
    }


def deliver_model(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Log and register the model that a journal holds, however far an earlier attempt came."""
    run = client.get_run(deliver.run_id_of(journal))
    model = logged_model(client, journal, run)
    if model.status != LoggedModelStatus.READY:
        assert record.files is not None, "a model's record has its files"
        upload(client, run, model, record.files)
    if name := record.content["registered_name"]:
        register(client, run, model, name, card=record.content["card"], tags=record.content.get("tags") or {})


def upload(client: mlflow.MlflowClient, run: Run, model: LoggedModel, files: Path) -> None:
    """Send a model that `save_model` saved, as what a run made."""
    about = Model.load(str(files))
    about.run_id, about.model_id, about.artifact_path = run.info.run_id, model.model_id, model.artifact_location
    about.save(str(files / "MLmodel"))
    client.log_model_artifacts(model.model_id, str(files))
    outputs = run.outputs.model_outputs if run.outputs else []
    if model.model_id not in {output.model_id for output in outputs}:
        client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, step=0)])
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def register(
    client: mlflow.MlflowClient, run: Run, model: LoggedModel, name: str, *, card: str, tags: Mapping[str, str]
) -> None:
    """Give a logged model its version under a registered name, with its card."""

    def create() -> Version:
        # Another training of the same name may create it at the same time.
        with existing_is_enough():
            client.create_registered_model(name)
        entry = client.create_model_version(
            name, f"models:/{model.model_id}", run.info.run_id, dict(tags), model_id=model.model_id
        )
        return Version.of(entry)

    version = create_once(partial(version_of, run.info.run_id, name, client=client), create)
    client.update_model_version(name, version.number, card.replace(VERSION, version.number))
    client.set_logged_model_tags(
        model.model_id, {MODEL_VERSIONS: json.dumps([{"name": name, "version": version.number}])}
    )
    describe(name, client=client)


def logged_model(client: mlflow.MlflowClient, journal: Journal, run: Run) -> LoggedModel:
    """The logged model of a journal, created where there is none yet: `mnist-cnn seed 0`, with what the run says."""
    experiment, tags = run.info.experiment_id, run.data.tags

    def find() -> LoggedModel | None:
        return next(iter(client.search_logged_models([experiment], f"tags.{JOURNAL} = '{journal.key}'")), None)

    def create() -> LoggedModel:
        return client.create_logged_model(
            experiment,
            UNNAMEABLE.sub("_", f"{tags[DATASET]}-{journal.about['name']}"),
            run.info.run_id,
            tags={JOURNAL: journal.key, **{name: tags[name] for name in OF_A_MODEL if name in tags}},
            params=run.data.params,
            model_type=tags[TASK],
        )

    return create_once(find, create)


def deliver_scores(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Log final metrics to the run and to its model, with the data sets that they are measured on."""
    run = client.get_run(deliver.run_id_of(journal))
    model_id = logged_model(client, journal, run).model_id
    for group in record.content["groups"]:
        deliver.send_metrics(client, run.info.run_id, group["points"], model_id=model_id, dataset=group["dataset"])


# What is to be done with the records of a training's journal.
DELIVERIES: Mapping[str, Delivery] = {**deliver.DELIVERIES, "model": deliver_model, "scores": deliver_scores}
