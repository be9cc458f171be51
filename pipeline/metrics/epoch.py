"""What one pass over the training images brought."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Epoch:
    """One pass over the training images.

    Attributes:
        index: counted from 1.
        metrics: train/loss (the objective, so with label smoothing and on augmented images) and its parts if it has
            any, val/loss, val/accuracy, val/f1 and the task's other scores, train/lr (at the end) and
            train/images_per_second (without validation).
        seconds: time of training and validation.
    """

    index: int
    metrics: Mapping[str, float]
    seconds: float

    @property
    def rank(self) -> tuple[float, int]:
        """The larger, the better: accuracy on validation, and of equal ones the later.

        The learning rate falls towards the end, and label smoothing lets the loss rise while the accuracy does.
        """
        return self.metrics["val/accuracy"], self.index
