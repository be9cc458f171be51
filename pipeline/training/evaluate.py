"""The test images, used once, at the end of a training."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data import corruptions
from pipeline.data.images import ImageSet, Splits
from pipeline.evaluation import profiling
from pipeline.evaluation.task import Predictions, Samples
from pipeline.metrics import classification
from pipeline.metrics.calibration import Calibration, calibrate
from pipeline.registry.bundled import calibrated
from pipeline.training.engine.loop import check_finite, inputs, predict_images
from pipeline.training.engine.state import Training
from pipeline.training.progress import shown

logger = logging.getLogger(__name__)


# Training images of each class that show what is typical of it.
TYPICAL = 50


@dataclass(frozen=True)
class Answers:
    """What a trained model answers, and how sure it is.

    Attributes:
        predictions: the task's predictions by kind of sample, those on the images in the order of the test file.
        calibrated: log-probabilities (N, outcomes) of the test images, as the registered model has them.
        calibration: of the model that is registered, found on the validation images.
        validation: of a classifier, what `calibrated` is of the validation images.
        typical: of a classifier, what training images look like to it.
    """

    predictions: Predictions
    calibrated: np.ndarray
    calibration: Calibration = field(default_factory=Calibration)
    validation: np.ndarray | None = None
    typical: Mapping[str, Tensor] | None = None


@dataclass(frozen=True)
class Result:
    """What a finished training is judged by.

    Attributes:
        answers: what it answers.
        scores: loss, accuracy, f1 and the task's other scores on the test samples.
        robustness: by corruption, the accuracy on corrupted test images at each severity; 0: as they are.
        train_s: seconds of training and validation.
        cost: what training and answering cost, as `cost` measures it.
    """

    answers: Answers
    scores: Mapping[str, float]
    robustness: Mapping[str, Mapping[int, float]]
    train_s: float
    cost: Mapping[str, float]

    def summary(self) -> str:
        """The result in a few words."""
        accuracy, images = self.scores["accuracy"], len(self.answers.predictions["single"])
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
    answers = classify(training, splits) if training.config.task == "classification" else detect(training, samples)
    scores = task.score(answers.predictions, samples)
    check_finite(scores["loss"], training.config, training.best.index)
    log_probabilities = task.log_probabilities(answers.predictions)
    robustness = test_corrupted(training, splits.test, log_probabilities)
    worse = [accuracy for curve in robustness.values() for severity, accuracy in curve.items() if severity]
    return Result(
        answers=answers,
        scores={
            **scores,
            "calibration_error": classification.calibration_error(log_probabilities, splits.test.targets),
            "calibrated_error": classification.calibration_error(answers.calibrated, splits.test.targets),
            "corrupted_accuracy": sum(worse) / len(worse),
        },
        robustness=robustness,
        train_s=training.seconds,
        cost={**profiling.profile_inference(nn.Sequential(training.preprocess, model), splits.test.images), **spent},
    )


def classify(training: Training, splits: Splits) -> Answers:
    """The answers of a classifier."""
    random = np.random.default_rng(0)
    targets = splits.train.targets
    chosen = [random.permutation(np.flatnonzero(targets == label))[:TYPICAL] for label in np.unique(targets)]
    shown = splits.train.subset(np.concatenate(chosen))
    model = cast(Any, training.model)
    with torch.inference_mode():
        features = torch.cat([model.forward_features(batch).flatten(1) for batch in inputs(training, shown.images)])
        typical = calibrated.typical(features, torch.from_numpy(shown.targets).to(features.device))
    network = calibrated.Calibrated(model, temperature=1.0, typical=typical)

    @torch.inference_mode()
    def examine(part: ImageSet) -> tuple[np.ndarray, np.ndarray]:
        logits, novelty = zip(*map(network.examine, inputs(training, part.images)), strict=True)
        return torch.cat(logits).log_softmax(1).cpu().numpy(), torch.cat(novelty).cpu().numpy()

    validation, novelty = examine(splits.val)
    calibration = calibrate(validation, splits.val.targets, novelty)
    validation = calibration.apply(validation, novelty)
    test_answers, novelty = examine(splits.test)
    return Answers({"single": test_answers}, calibration.apply(test_answers, novelty), calibration, validation, typical)


def detect(training: Training, samples: Samples) -> Answers:
    """The answers of a detector, whose scores are its own."""
    predictions = {kind: predict_images(training, part.images) for kind, part in samples.items()}
    return Answers(predictions, training.task.log_probabilities(predictions))


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
