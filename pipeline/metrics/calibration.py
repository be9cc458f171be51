"""Probabilities that mean what they say, and from which probability on an answer is sure."""

from dataclasses import dataclass

import numpy as np
from scipy.special import log_softmax

# So many images of the kind that a model was trained for have a surer answer than what is called unsure.
SURE_SHARE = 0.95
# Logarithms of the temperatures that are tried.
TEMPERATURES = (-3.0, 3.0)


@dataclass(frozen=True)
class Calibration:
    """How logits become probabilities.

    Attributes:
        temperature: logits are divided by it, times the novelty of the image.
        sure_from: an answer of a smaller probability is unsure.
    """

    temperature: float = 1.0
    sure_from: float = 0.0

    def apply(self, log_probabilities: np.ndarray, novelty: np.ndarray | float = 1.0) -> np.ndarray:
        """Log-probabilities (N, classes) at its temperature, given the novelty (N, 1) of the images."""
        return log_softmax(log_probabilities / (self.temperature * novelty), axis=1)


def calibrate(log_probabilities: np.ndarray, targets: np.ndarray, novelty: np.ndarray | float = 1.0) -> Calibration:
    """Temperature scaling: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599.

    Images of other things are mostly answered with a smaller probability than almost all of a model's own: Hendrycks,
    Gimpel, "A Baseline for Detecting Misclassified and Out-of-Distribution Examples", ICLR 2017, arXiv:1610.02136.

    Args:
        log_probabilities: (N, classes), of validation images.
        targets: (N,).
        novelty: (N, 1), how unlike the training's each image is: see registry/bundled/calibrated.py.
    """
    # Here: whoever asks a registered model only applies what was found, and importing this takes longer.
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        scaled = Calibration(float(np.exp(logarithm))).apply(log_probabilities, novelty)
        return float(-scaled[np.arange(len(targets)), targets].mean())

    temperature = float(np.exp(minimize_scalar(loss, bounds=TEMPERATURES, method="bounded").x))
    best = np.exp(Calibration(temperature).apply(log_probabilities, novelty)).max(1)
    return Calibration(temperature, float(np.quantile(best, 1 - SURE_SHARE)))
