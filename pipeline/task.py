"""What a model is trained for: how a loss, a prediction and a score come about.

The engine knows a task only through these three, so that a detector needs no second training loop.
"""

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pipeline import metrics

Forward = Callable[[Tensor], Tensor]


class Task(Protocol):
    """The interface between the training loop and what is learned."""

    def loss(self, forward: Forward, inputs: Tensor, targets: Tensor) -> Tensor:
        """The scalar to minimise over one batch."""

    def predict(self, forward: Forward, inputs: Tensor) -> Tensor:
        """Predictions for one batch, one row an image."""

    def score(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Metrics of a whole split, at least loss, accuracy and f1."""


class Classification:
    """One class an image; a prediction is the logarithm of each class's probability."""

    def __init__(self, *, label_smoothing: float) -> None:
        self.label_smoothing = label_smoothing

    def loss(self, forward: Forward, inputs: Tensor, targets: Tensor) -> Tensor:
        """Cross-entropy of logits (N, classes) against smoothed targets (N,)."""
        logits = forward(inputs).float()
        return torch.nn.functional.cross_entropy(logits, targets, label_smoothing=self.label_smoothing)

    def predict(self, forward: Forward, inputs: Tensor) -> Tensor:
        """Log-probabilities, float32 (N, classes)."""
        return forward(inputs).float().log_softmax(1)

    def score(self, predictions: np.ndarray, targets: np.ndarray) -> dict[str, float]:
        """Cross-entropy without smoothing, accuracy, macro-averaged F1."""
        return metrics.classification(predictions, targets)


def create(name: str, *, label_smoothing: float) -> Task:
    """The task of this name, as an architecture's file gives it."""
    return {"classification": Classification}[name](label_smoothing=label_smoothing)
