"""Probabilities that mean what they say, of images unlike those of the training, too.

Registered models carry a copy of this file: it imports torch and nothing of this project.
"""

from typing import Any

import torch
from torch import Tensor, nn


class Calibrated(nn.Module):
    """A classifier whose logits are divided by a temperature, the higher the less an image is like the training's.

    Temperature scaling, Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599, by the
    distance of features: Tomani et al., "Beyond In-Domain Scenarios: Robust Density-Aware Calibration", ICML 2023,
    arXiv:2302.05118. The class with the largest logit stays the same.

    Args:
        network: from inputs to logits (N, classes).
        temperature: of an image at the usual distance.
        typical: what `typical` found; None: all images are as usual, and the network needs no features.
    """

    network: Any
    center: Tensor
    means: Tensor
    usual: Tensor

    def __init__(self, network: nn.Module, *, temperature: float, typical: dict[str, Tensor] | None = None) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.knows = typical is not None
        for name, value in (typical or {}).items():
            self.register_buffer(name, value, persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Calibrated logits."""
        logits, novelty = self.examine(inputs)
        return logits / (self.temperature * novelty)

    def examine(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits as the network gives them, and the novelty (N, 1) of each image, 1 at the usual distance."""
        if not self.knows:
            logits = self.network(inputs).float()
            return logits, torch.ones_like(logits[:, :1])
        features = self.network.forward_features(inputs)
        logits = self.network.forward_head(features).float()
        return logits, (1 + distance(features, self.center, self.means) / self.usual) / 2


def typical(features: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """What a network makes of training images, given as features (N, ...) and targets (N,).

    Returns:
        the mean direction of all features, `center` (D,), those of each class from there, `means` (classes, D), and
        the `usual`, that is median, distance from the nearest of them.
    """
    center = directions(features).mean(0)
    from_center = directions(features) - center
    means = torch.stack([from_center[targets == label].mean(0) for label in targets.unique()])
    # Where all images of a class are the same one, any other is new, but not by a division by nothing.
    return {"center": center, "means": means, "usual": distance(features, center, means).median().clamp(min=0.01)}


def distance(features: Tensor, center: Tensor, means: Tensor) -> Tensor:
    """Distance (N, 1) of the direction of features (N, ...) from the nearest of the means (classes, D)."""
    # From the center, as of large numbers that are nearly equal little would be left.
    from_center = directions(features) - center
    squares = from_center.square().sum(1, keepdim=True) - 2 * from_center @ means.T + means.square().sum(1)
    return squares.amin(1, keepdim=True).clamp(min=0).sqrt()


def directions(features: Tensor) -> Tensor:
    """Features (N, ...) as vectors of length one, float32 (N, D)."""
    return nn.functional.normalize(features.float().flatten(1))
