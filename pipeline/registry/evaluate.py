"""A registered model on the test file of any data set, as a run linked to the model's version."""

import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from mlflow.exceptions import MlflowException

from pipeline.data.images import Dataset, ImageSet
from pipeline.errors import InputError
from pipeline.evaluation import figures, task
from pipeline.evaluation.predictions import write_predictions
from pipeline.metrics import classification
from pipeline.metrics.catalog import is_of_scenes
from pipeline.registry import versions
from pipeline.registry.loading import RegisteredModel
from pipeline.tracking import runs, schema
from pipeline.tracking.client import launcher_run


@dataclass(frozen=True)
class Evaluation:
    """What was found, and the run that holds it."""

    run_id: str
    scores: Mapping[str, float]


def evaluate(model: RegisteredModel, dataset: Dataset) -> Evaluation:
    """Test a registered model and record it.

    Raises:
        InputError: the data set has classes that the model does not know.
    """
    images = fitted(relabelled(dataset.test, model), model.shape)
    of_task = task.create(model.task, classes=model.classes, task_args=model.task_args)
    samples = of_task.samples(images)
    # The scores of its training are those of the network before its probabilities were calibrated, so these are, too.
    plain = model.uncalibrated
    predictions = {kind: plain.answer(part.images) for kind, part in samples.items()}
    if model.task == "classification":
        predictions = {"single": plain.log_probabilities(predictions["single"])}
        calibrated = model.log_probabilities(model.answer(images.images))
        log_probabilities = predictions["single"]
    else:
        calibrated = log_probabilities = of_task.log_probabilities(predictions)
    scores = {
        **of_task.score(predictions, samples),
        "calibration_error": classification.calibration_error(log_probabilities, images.targets),
        "calibrated_error": classification.calibration_error(calibrated, images.targets),
    }
    about = f"{model.label} on {dataset.name}: the {len(images):,} test images"
    tags = {
        schema.KIND: schema.EVALUATION,
        schema.MODEL_URI: model.uri,
        schema.ARCHITECTURE: model.architecture,
        schema.DATASET: dataset.name,
        schema.DATASET_SHA256: dataset.sha256,
    }
    run_id = launcher_run()
    with (
        runs.open_run(f"evaluate {model.label}", tags=tags, run_id=run_id) as run_id,
        tempfile.TemporaryDirectory() as folder,
    ):
        entries = {"single": runs.log_images(run_id, dataset.test, f"{dataset.name}-test", context=runs.TEST)}
        for kind, part in samples.items():
            if kind != "single":
                entries[kind] = runs.log_images(run_id, part, f"{dataset.name}-test-{kind}", context=runs.TEST)
        write_predictions(Path(folder), images, calibrated, outcomes=of_task.outcomes, about=about)
        figures.save(of_task.pictures(predictions, samples, about), Path(folder))
        runs.log_artifacts(run_id, Path(folder))
        model_id = model.version.model_id if model.version else None
        for kind, entry in entries.items():
            final = {f"test/{name}": value for name, value in scores.items() if is_of_scenes(name) == (kind == "scene")}
            runs.log_results(run_id, final, model_id=model_id, dataset=entry)
        if model.version:
            versions.link(model.version, run_id)
            outcome = {"accuracy": f"{scores['accuracy']:.4f}", "run": run_id}
            # Who may not write to the model still has the run.
            with suppress(MlflowException):
                versions.tag(model.version, f"evaluation.{dataset.name}.", outcome)
    return Evaluation(run_id, scores)


def relabelled(images: ImageSet, model: RegisteredModel) -> ImageSet:
    """The images with the model's numbers for their classes, which are told by name.

    Raises:
        InputError: the model does not know a class.
    """
    if unknown := [name for name in images.classes if name not in model.classes]:
        raise InputError(
            f"{model.label} knows the classes {', '.join(model.classes)}, the data set has {', '.join(unknown)} too: "
            "choose a data set of the same classes."
        )
    numbers = np.array([model.classes.index(name) for name in images.classes])
    return replace(images, targets=numbers[images.targets], classes=model.classes)


def fitted(images: ImageSet, shape: tuple[int | None, int | None]) -> ImageSet:
    """The images in the size that a model takes."""
    if shape[0] is None or shape[1] is None or images.images.shape[1:] == shape:
        return images
    pixels = torch.from_numpy(images.images)[:, None].float()
    scaled = torch.nn.functional.interpolate(pixels, (shape[0], shape[1]), mode="bilinear", antialias=True)[:, 0]
    return replace(images, images=scaled.round().clamp(0, 255).byte().numpy())
