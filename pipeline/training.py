"""One training from its config to a finished MLflow run, resumable after every epoch."""

import json
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mlflow.entities import Run
from torch import nn

from pipeline.checkpoint import Checkpoint
from pipeline.comparison import protocol
from pipeline.config import TrainConfig
from pipeline.data import corruptions
from pipeline.data.images import Dataset, ImageSet, Splits
from pipeline.data.splits import split
from pipeline.engine import Training, check_finite, fit, predict_images
from pipeline.errors import PipelineError
from pipeline.evaluation import figures, profiling
from pipeline.evaluation.predictions import write_predictions
from pipeline.evaluation.task import Predictions
from pipeline.metrics import classification
from pipeline.progress import Progress
from pipeline.registry import bundle, card, register, versions
from pipeline.tracking import queries, runs
from pipeline.weights import FRESH, Start


@dataclass(frozen=True)
class Result:
    """What a finished training is judged by.

    Attributes:
        run_id: the MLflow run.
        predictions: the task's predictions by kind of sample, those on the images in the order of the test file.
        scores: loss, accuracy, f1 and the task's other scores on the test samples.
        robustness: by corruption, the accuracy on corrupted test images at each severity; 0: as they are.
        train_s: seconds of training and validation.
        cost: what training and answering cost, as `cost` measures it.
    """

    run_id: str
    predictions: Predictions
    scores: Mapping[str, float]
    robustness: Mapping[str, Mapping[int, float]]
    train_s: float
    cost: Mapping[str, float]

    def summary(self) -> str:
        """The result in a few words."""
        accuracy, images = self.scores["accuracy"], len(self.predictions["single"])
        return f"{accuracy:.2%} of the {images:,} test images right after {self.train_s:.0f} s of training"


def train(
    config: TrainConfig,
    dataset: Dataset,
    *,
    root: Path,
    start: Start = FRESH,
    run_id: str | None = None,
) -> Result:
    """Train, test and record one config.

    Args:
        start: the weights to start from; not needed when a checkpoint of the run exists.
        run_id: a run to continue; its checkpoint is used if there is one.

    Raises:
        InputError: the config cannot be built, or another process trains this run.
        PipelineError: the loss became infinite or not a number.
    """
    started = time.perf_counter()
    splits = split(dataset, val_size=config.val_size, limit=config.limit)
    training = Training(config, splits, start.state)
    name = f"{config.model} seed {config.seed}"
    tags = runs.training_tags(
        config, protocol_fields=protocol.fields(dataset, splits), budget=budget(config, splits)
    ) | {"machine": profiling.machine(training.device)}
    if start.lineage:
        tags["lineage"] = start.lineage
    with ExitStack() as stack:
        # A run to continue is locked before it is opened: if another process trains it, its status must not change.
        if run_id:
            stack.enter_context(Checkpoint(root, run_id).locked())
        opened = stack.enter_context(runs.open_run(name, tags=tags, run_id=run_id, system_metrics=True))
        checkpoint = Checkpoint(root, opened)
        if not run_id:
            stack.enter_context(checkpoint.locked())
        run_id = opened
        runs.log_params(run_id, config.params())
        if saved := checkpoint.load():
            training.load_state_dict(saved["training"])
            started -= saved["elapsed"]
            logged = runs.logged_epochs(run_id)
            missing = [epoch for epoch in training.history if epoch.index not in logged]
            runs.log_epochs(run_id, missing)
        else:
            runs.log_images(dataset.train, f"{dataset.name}-training", context="training")
            for kind, part in training.task.samples(dataset.test).items():
                suffix = "" if kind == "single" else f"-{kind}"
                runs.log_images(part, f"{dataset.name}-test{suffix}", context="test")

        meter = profiling.Meter(training.device)
        try:
            with Progress(config, steps=training.steps, done=len(training.history)) as progress:
                for epoch in fit(training, report=progress.step):
                    meter.update()
                    # The checkpoint first: what it holds is logged on resuming, what only the server had would be lost.
                    elapsed = time.perf_counter() - started
                    checkpoint.save(training=training.state_dict(), config=config.params(), elapsed=elapsed)
                    runs.log_epochs(run_id, [epoch])
                    progress.epoch(epoch)
        except PipelineError:
            # It diverged, and would again.
            checkpoint.remove()
            raise

        spent = meter.read()
        if saved:
            # What was used before the training was cut is not known.
            spent.pop("energy_j", None)
        result = test(run_id, training, splits, spent)
        record(result, training, dataset, splits, start, total_s=time.perf_counter() - started)
    # Only now that the run has its status: killed before, it is resumed to do the rest.
    checkpoint.remove()
    return result


def budget(config: TrainConfig, splits: Splits) -> dict[str, Any]:
    """What the config may spend on these images."""
    return protocol.budget(epochs=config.epochs, images=len(splits.train), pretrained=config.weights != "none")


def resumable(found: Iterable[Run], root: Path) -> str | None:
    """The first of these runs that was cut and can go on here.

    After a kill -9 a run still says RUNNING; where something other than the training failed, a full disk perhaps, its
    checkpoint is left. A run with epochs but no checkpoint would log them twice.
    """
    for run in found:
        if Checkpoint(root, run.info.run_id).exists():
            has_place = not queries.is_finished(run)
        else:
            has_place = run.info.status in ("RUNNING", "KILLED") and "val/loss" not in run.data.metrics
        if has_place:
            return run.info.run_id
    return None


def test(run_id: str, training: Training, splits: Splits, spent: Mapping[str, float]) -> Result:
    """Use the test images, once, on the epoch that validation chose."""
    model, task = training.use_best(), training.task
    samples = task.samples(splits.test)
    predictions = {kind: predict_images(training, part.images) for kind, part in samples.items()}
    scores = task.score(predictions, samples)
    check_finite(scores["loss"], training.config, training.best.index)
    log_probabilities = task.log_probabilities(predictions)
    robustness = test_corrupted(training, splits.test, log_probabilities)
    worse = [accuracy for curve in robustness.values() for severity, accuracy in curve.items() if severity]
    return Result(
        run_id=run_id,
        predictions=predictions,
        scores={
            **scores,
            "calibration_error": classification.calibration_error(log_probabilities, splits.test.targets),
            "corrupted_accuracy": sum(worse) / len(worse),
        },
        robustness=robustness,
        train_s=training.seconds,
        cost={**profiling.profile_inference(nn.Sequential(training.preprocess, model), splits.test.images), **spent},
    )


def test_corrupted(training: Training, test: ImageSet, clean: np.ndarray) -> dict[str, dict[int, float]]:
    """Accuracy on corrupted test images, by corruption and severity, given the log-probabilities of the clean ones."""
    clean_accuracy = classification.accuracy(clean, test.targets, corruptions.chosen(len(test)))
    curves: dict[str, dict[int, float]] = {name: {0: clean_accuracy} for name in corruptions.CORRUPTIONS}
    for name, severity, worse in corruptions.corrupted(test):
        found = training.task.log_probabilities({"single": predict_images(training, worse.images)})
        curves[name][severity] = classification.accuracy(found, worse.targets)
    return curves


def record(
    result: Result, training: Training, dataset: Dataset, splits: Splits, start: Start, *, total_s: float
) -> None:
    """Log a result with its pictures and tables and register the model, unless this run has registered it before."""
    config, run_id = training.config, result.run_id
    final = {
        **{f"test/{name}": value for name, value in result.scores.items()},
        "time/train_s": result.train_s,
        **{f"time/{name}": value for name, value in profiling.seconds_to_goals(training.history).items()},
        **{f"cost/{name}": value for name, value in result.cost.items()},
    }
    registered_name = versions.registered_name(config.dataset, config.model)
    registered = versions.version_of(run_id, registered_name)
    version = registered.number if registered else None
    with tempfile.TemporaryDirectory() as temporary:
        report = Path(temporary, "report")
        report.mkdir()
        write_report(report, result, training, dataset)
        runs.log_artifacts(run_id, report)
        if version is None:
            folder = Path(temporary, "bundle")
            folder.mkdir()
            bundle.write(folder, config=config, model=training.model, images=dataset.test)
            version = register.log_model(
                folder,
                registered_name=registered_name,
                example=dataset.test.images[:2],
                task=config.task,
                classes=len(dataset.classes),
            )
    model_card = card.write(
        config,
        name=registered_name,
        version=version,
        test=dataset.test,
        log_probabilities=training.task.log_probabilities(result.predictions),
        outcomes=training.task.outcomes,
        results=final,
        robustness=result.robustness,
        protocol=protocol.fields(dataset, splits),
        budget=budget(config, splits),
        weights=start.lineage or config.weights,
        best_epoch=training.best.index,
        machine=profiling.machine(training.device),
    )
    register.describe(registered_name, version, model_card)
    robustness = {f"corruption/{name}": curve for name, curve in result.robustness.items()}
    runs.log_results(run_id, final | {"time/total_s": total_s}, robustness)


def write_report(folder: Path, result: Result, training: Training, dataset: Dataset) -> None:
    """Write pictures, per-class scores and the predictions on the test images into a folder."""
    config, task, best, test_set = training.config, training.task, training.best, dataset.test
    about = f"{config.model} on {dataset.name}, seed {config.seed}"
    write_predictions(
        folder,
        test_set,
        task.log_probabilities(result.predictions),
        outcomes=task.outcomes,
        about=f"{about}: the {len(test_set):,} test images, epoch {best.index}",
    )
    pictures = {
        "learning_curves": figures.learning_curves(
            training.history, best, f"{about}: {len(training.val):,} validation images"
        ),
        **task.pictures(result.predictions, task.samples(test_set), f"{about}, epoch {best.index}"),
    }
    figures.save(pictures, folder)
    chosen = {"epoch": best.index, "chosen_by": "val/accuracy, then val/loss", **best.metrics}
    (folder / "best_epoch.json").write_text(json.dumps(chosen, indent=2))
