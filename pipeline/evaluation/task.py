"""What a model is trained for: how samples, a loss, a prediction and a score come about.

The training loop knows a task only through this, so that a detector needs no second training loop.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from torch import Generator, Tensor

from pipeline.data.images import ImageSet
from pipeline.evaluation.classification import Classification
from pipeline.evaluation.detection import Detection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# The model, or its head where frozen features are computed once.
Forward = Callable[..., Any]
# By kind of sample, of which every task has "single", the images themselves.
Samples = Mapping[str, ImageSet]
Predictions = Mapping[str, np.ndarray]


class Task(Protocol):
    """The interface between the training loop and what is learned.

    Attributes:
        outcomes: what an image can be taken for, the classes first.
        examined_on: what decides which samples it is examined on beside the images; the same for all that are compared
            by its own scores.
        cacheable: whether every epoch sees the same samples as long as nothing is augmented.
        fixed_work: whether the loss of every batch of a size is the same work, whatever the images show.
    """

    outcomes: tuple[str, ...]
    cacheable: bool
    fixed_work: bool
    examined_on: Mapping[str, Any]

    def samples(self, part: ImageSet) -> Samples:
        """What a model is examined on in this part of the data, by kind; the same for every run."""

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """A training batch, images and targets, from images (N, H, W) with values 0 to 255 and labels (N,)."""

    def loss(self, forward: Forward, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The scalar to minimise over one batch as `loss`, and what else is worth watching."""

    def predict(self, forward: Forward, inputs: Tensor) -> Tensor:
        """Predictions for one batch, one row an image."""

    def log_probabilities(self, predictions: Predictions) -> np.ndarray:
        """What the images were taken for: (N, outcomes)."""

    def score(self, predictions: Predictions, samples: Samples) -> dict[str, float]:
        """Metrics of a whole part, at least loss, accuracy and f1."""

    def pictures(self, predictions: Predictions, samples: Samples, about: str) -> dict[str, "Figure"]:
        """Pictures of the results by name, besides those that every task has."""


TASKS: dict[str, Callable[..., Task]] = {"classification": Classification, "detection": Detection}
SUPPLIED = ("classes",)


def create(name: str, *, classes: tuple[str, ...], task_args: Mapping[str, Any]) -> Task:
    """The task of this name, as an architecture's file gives it.

    Raises:
        ValueError: arguments that cannot be.
    """
    return TASKS[name](classes=classes, **task_args)


def arguments(name: str) -> dict[str, Any]:
    """The arguments of a task that a recipe or a user may set, with their defaults."""
    parameters = inspect.signature(TASKS[name]).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in SUPPLIED}
