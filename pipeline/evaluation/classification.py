"""One class an image."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from pipeline.data.images import ImageSet
from pipeline.metrics import classification

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Classification:
    """Cross-entropy of logits (N, classes); a prediction is the logarithm of each class's probability.

    Args:
        label_smoothing: share of the target spread over all classes while training.
    """

    cacheable = True
    fixed_work = True

    def __init__(self, *, classes: tuple[str, ...], label_smoothing: float = 0.0) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing is a share from 0 to 1, not {label_smoothing}")
        self.outcomes = classes
        self.examined_on: Mapping[str, Any] = {}
        self.label_smoothing = label_smoothing

    def samples(self, part: ImageSet) -> dict[str, ImageSet]:
        """The images as they are."""
        return {"single": part}

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The images as they are."""
        return images, labels

    def loss(self, forward: Callable, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Cross-entropy against smoothed targets (N,)."""
        logits = forward(inputs).float()
        return {"loss": torch.nn.functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)}

    def predict(self, forward: Callable, inputs: Tensor) -> Tensor:
        """Log-probabilities, float32 (N, classes)."""
        return forward(inputs).float().log_softmax(1)

    def log_probabilities(self, predictions: Mapping[str, np.ndarray]) -> np.ndarray:
        """The predictions themselves."""
        return predictions["single"]

    def score(self, predictions: Mapping[str, np.ndarray], samples: Mapping[str, ImageSet]) -> dict[str, float]:
        """Cross-entropy without smoothing, accuracy, macro-averaged F1."""
        return classification.scores(predictions["single"], samples["single"].targets)

    def pictures(
        self, predictions: Mapping[str, np.ndarray], samples: Mapping[str, ImageSet], about: str
    ) -> dict[str, "Figure"]:
        """None of its own."""
        return {}
