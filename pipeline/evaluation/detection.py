"""Boxes around digits, and the class of each.

Predictions are float32 (N, K, 6), targets int64 (N, D, 5), as `models/faster_rcnn.py` describes them.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from pipeline.data.images import ImageSet
from pipeline.data.scenes import SCENE_SEED, SceneStyle, compose, scene_set, singles
from pipeline.metrics import classification, detection
from pipeline.metrics.catalog import IOU_THRESHOLD, SCORE_THRESHOLD

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_SCENES = 1000
MISSED = "nothing"


class Detection:
    """Trains on single images and on scenes of several digits in turn, and is examined on both.

    Classification by detection: the class of the best box; an image without any box is taken for "nothing".

    Args:
        scenes: share of the training batches that are scenes.
        canvas, digits, sizes, overlap, clutter, noise: see `scenes.SceneStyle`.
    """

    cacheable = False
    fixed_work = False

    def __init__(
        self,
        *,
        classes: tuple[str, ...],
        scenes: float = 0.5,
        canvas: int = 64,
        digits: tuple[int, int] = (1, 5),
        sizes: tuple[int, int] = (14, 32),
        overlap: float = 0.1,
        clutter: int = 0,
        noise: float = 0.0,
    ) -> None:
        if not 0 <= scenes <= 1:
            raise ValueError(f"scenes is a share from 0 to 1, not {scenes}")
        self.classes = classes
        self.outcomes = (*classes, MISSED)
        self.scenes = scenes
        self.style = SceneStyle(canvas, digits, sizes, overlap, clutter, noise)
        self.examined_on: Mapping[str, Any] = {**asdict(self.style), "seed": SCENE_SEED, "most": MAX_SCENES}

    def samples(self, part: ImageSet) -> dict[str, ImageSet]:
        """The images themselves, and up to MAX_SCENES scenes of them."""
        return {"single": part, "scene": scene_set(part, self.style, count=min(MAX_SCENES, len(part)))}

    def batch(self, images: Tensor, labels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """The images with their boxes, or scenes made of them."""
        if torch.rand((), generator=generator, device=images.device) >= self.scenes:
            return images, singles(images, labels)
        count = max(1, round(2 * len(images) / sum(self.style.digits)))
        return compose(images, labels, self.style, count=count, generator=generator)

    def loss(self, forward: Callable, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The sum of Faster R-CNN's four losses, and each: two of the regions proposed, two of those judged."""
        losses = forward(inputs, targets)
        names = {
            "loss_objectness": "loss_objectness",
            "loss_rpn_box_reg": "loss_rpn_box",
            "loss_classifier": "loss_class",
            "loss_box_reg": "loss_box",
        }
        return {"loss": sum(losses.values()), **{names[name]: value.detach() for name, value in losses.items()}}

    def predict(self, forward: Callable, inputs: Tensor) -> Tensor:
        """Detections, float32 (N, K, 6)."""
        return forward(inputs)

    def log_probabilities(self, predictions: Mapping[str, np.ndarray]) -> np.ndarray:
        """Each class's best score in an image, and a small one for "nothing", scaled to a sum of 1."""
        return detection.classify(predictions["single"], len(self.classes))

    def score(self, predictions: Mapping[str, np.ndarray], samples: Mapping[str, ImageSet]) -> dict[str, float]:
        """Classification by detection on the single images; average precision and recall on the scenes."""
        return {
            **classification.scores(self.log_probabilities(predictions), samples["single"].targets),
            **detection.scores(predictions["scene"], samples["scene"].targets, self.classes),
        }

    def pictures(
        self, predictions: Mapping[str, np.ndarray], samples: Mapping[str, ImageSet], about: str
    ) -> dict[str, "Figure"]:
        """Scenes with true and predicted boxes, those with the worst misses, the precision-recall curve."""
        # Only now: a training begins a second earlier without what draws.
        from pipeline.evaluation import figures

        found, scenes = predictions["scene"], samples["scene"]
        there = scenes.targets[:, :, 4] >= 0
        seen, right = detection.match(found, scenes.targets)
        missed = (there & ~seen).sum(1)
        invented = ((found[:, :, 4] >= SCORE_THRESHOLD) & ~right).sum(1)
        worst = np.lexsort((-invented, -missed))[: np.count_nonzero(missed + invented)]
        about = f"{about}: {len(scenes):,} scenes of test images"
        summary = f"{missed.sum():,} of {there.sum():,} digits missed, {invented.sum():,} boxes wrong"
        rule = f"a box is right when it shares at least {IOU_THRESHOLD:.0%} of the union with the true one"
        curves = detection.precision_recall(found, scenes.targets)
        return {
            "scenes": figures.detections(scenes, found, right, range(len(scenes)), f"{about}; the first"),
            "misses": figures.detections(scenes, found, right, worst.tolist(), f"{about}; {summary}; the worst"),
            "precision_recall": figures.precision_recall(curves, self.classes, f"{about}\n{rule}"),
        }
