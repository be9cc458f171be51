"""The test images, used once, at the end of a training."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from torch import nn

from pipeline.data import corruptions
from pipeline.data.images import ImageSet, Splits
from pipeline.evaluation import profiling
from pipeline.evaluation.task import Predictions
from pipeline.metrics import classification
from pipeline.metrics.calibration import Calibration, calibrate
from pipeline.training.engine.loop import check_finite, predict_images
from pipeline.training.engine.state import Training
from pipeline.training.progress import shown

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a finished training is judged by.

    Attributes:
        predictions: the task's predictions by kind of sample, those on the images in the order of the test file.
        scores: loss, accuracy, f1 and the task's other scores on the test samples.
        robustness: by corruption, the accuracy on corrupted test images at each severity; 0: as they are.
        train_s: seconds of training and validation.
        cost: what training and answering cost, as `cost` measures it.
        calibration: of the model that is registered, found on the validation images.
        validation: log-probabilities (N, classes) of the validation images; None for a detector.
    """

    predictions: Predictions
    scores: Mapping[str, float]
    robustness: Mapping[str, Mapping[int, float]]
    train_s: float
    cost: Mapping[str, float]
    calibration: Calibration
    validation: np.ndarray | None

    def summary(self) -> str:
        """The result in a few words."""
        accuracy, images = self.scores["accuracy"], len(self.predictions["single"])
        seconds = f"{self.train_s:.{0 if self.train_s >= 10 else 1}f}"
        return f"{accuracy:.2%} of the {images:,} test images right after {seconds} s of training"


def test(training: Training, splits: Splits, spent: Mapping[str, float]) -> Result:
    """Use the test images, once, on the epoch that validation chose."""
    model, task = training.use_best(), training.task
    samples = task.samples(splits.test)
    if len(samples) > 1:
        # A detector's take long.
        counts = " and ".join(f"{len(part):,} {kind} images" for kind, part in samples.items())
        logger.info("%-12s is tested on %s and on corrupted ones", training.config.model, counts)
    predictions = {kind: predict_images(training, part.images) for kind, part in samples.items()}
    scores = task.score(predictions, samples)
    check_finite(scores["loss"], training.config, training.best.index)
    log_probabilities = task.log_probabilities(predictions)
    robustness = test_corrupted(training, splits.test, log_probabilities)
    # A detector's scores are its own.
    validation = predict_images(training, splits.val.images) if training.config.task == "classification" else None
    calibration = Calibration() if validation is None else calibrate(validation, splits.val.targets)
    calibrated = calibration.apply(log_probabilities)
    worse = [accuracy for curve in robustness.values() for severity, accuracy in curve.items() if severity]
    return Result(
        predictions=predictions,
        scores={
            **scores,
            "calibration_error": classification.calibration_error(log_probabilities, splits.test.targets),
            "calibrated_error": classification.calibration_error(calibrated, splits.test.targets),
            "corrupted_accuracy": sum(worse) / len(worse),
        },
        robustness=robustness,
        train_s=training.seconds,
        cost={**profiling.profile_inference(nn.Sequential(training.preprocess, model), splits.test.images), **spent},
        calibration=calibration,
        validation=validation,
    )


def test_corrupted(training: Training, test: ImageSet, clean: np.ndarray) -> dict[str, dict[int, float]]:
    """Accuracy on corrupted test images, by corruption and severity, given the log-probabilities of the clean ones."""
    clean_accuracy = classification.accuracy(clean, test.targets, corruptions.chosen(len(test)))
    curves: dict[str, dict[int, float]] = {name: {0: clean_accuracy} for name in corruptions.CORRUPTIONS}
    total = len(corruptions.CORRUPTIONS) * len(corruptions.SEVERITIES)
    corrupted = shown(corruptions.corrupted(test), f"{training.config.model} on corrupted images", total=total)
    for name, severity, worse in corrupted:
        found = training.task.log_probabilities({"single": predict_images(training, worse.images)})
        curves[name][severity] = classification.accuracy(found, worse.targets)
    return curves
