"""Scores of boxes: predictions (N, K, 6) and targets (N, D, 5), as `models/faster_rcnn.py` describes them."""

import re

import numpy as np
import torch

from pipeline.metrics.catalog import IOU_THRESHOLD, SCORE_THRESHOLD


def scores(predictions: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
    """Average precision and recall as COCO defines them, each also by class as `ap_CLASS`.

    `map` is the mean over the classes that occur and over the overlaps .5, .55, ... .95, `map_50` and `map_75` that at
    one overlap, `mar` the mean recall of at most 100 boxes an image.
    """
    found = _coco(predictions, targets)
    # In a metric's name a slash, which some classes have, would start another group of charts.
    plain = [re.sub(r"[^\w.-]", "-", name) for name in classes]
    names = {"map": "map", "map_50": "map_50", "map_75": "map_75", "mar": "mar_100"}
    by_class = {
        f"ap_{plain[label]}": value
        for label, value in zip(found["classes"].reshape(-1), found["map_per_class"].reshape(-1), strict=True)
    }
    values = {name: found[key] for name, key in names.items()} | by_class
    # The library says -1 where there is nothing to find.
    return {name: float(value) for name, value in values.items() if value >= 0}


def precision_recall(predictions: np.ndarray, targets: np.ndarray) -> dict[int, np.ndarray]:
    """Precision at the recalls 0, 0.01, ... 1 for an overlap of IOU_THRESHOLD, by class."""
    found = _coco(predictions, targets)
    # Axes of the precision: overlaps, recalls, classes, areas of boxes (all first), numbers of boxes (most last).
    curves = found["precision"][0, :, :, 0, -1].T
    return {
        int(label): curve for label, curve in zip(found["classes"].reshape(-1), curves, strict=True) if curve.min() >= 0
    }


def match(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which objects (N, D) have a sure detection of their class, and which detections (N, K) an object of theirs."""
    from torchvision.ops import box_iou

    overlaps = box_iou(torch.from_numpy(targets[..., :4]).float(), torch.from_numpy(predictions[..., :4])).numpy()
    there, sure = targets[..., 4] >= 0, predictions[..., 4] >= SCORE_THRESHOLD
    hits = (overlaps >= IOU_THRESHOLD) & (targets[..., :, None, 4] == predictions[..., None, :, 5])
    return (hits & sure[:, None, :]).any(2) & there, (hits & there[:, :, None]).any(1)


def _coco(predictions: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    from torchmetrics.detection import MeanAveragePrecision

    # All is here, also where several processes train: nothing is to be fetched from the others.
    metric = MeanAveragePrecision(
        backend="faster_coco_eval",
        class_metrics=True,
        extended_summary=True,
        distributed_available_fn=lambda: False,
    )
    metric.warn_on_many_detections = False
    boxes = torch.from_numpy(predictions)
    truth = torch.from_numpy(targets)
    metric.update(
        [
            {"boxes": rows[:, :4], "scores": rows[:, 4], "labels": rows[:, 5].long()}
            for rows in (image[image[:, 5] >= 0] for image in boxes)
        ],
        [{"boxes": rows[:, :4].float(), "labels": rows[:, 4]} for rows in (image[image[:, 4] >= 0] for image in truth)],
    )
    return {name: value.numpy() for name, value in metric.compute().items() if hasattr(value, "numpy")}


# What a class counts for that no box has been found of; that nothing is there counts twice as much.
MIN_SCORE = 1e-3


def classify(detections: np.ndarray, classes: int) -> np.ndarray:
    """What images were taken for, judged by their boxes alone.

    Args:
        detections: (N, K, 6).

    Returns:
        log-probabilities float32 (N, classes + 1): each class's best score, not less than MIN_SCORE, and twice that
        for "nothing", scaled to a sum of 1. So the best box decides, and without a box it is "nothing".
    """
    scores = np.full((len(detections), classes + 1), MIN_SCORE, np.float32)
    scores[:, classes] = 2 * MIN_SCORE
    for label in range(classes):
        of_class = np.where(detections[:, :, 5] == label, detections[:, :, 4], 0)
        scores[:, label] = of_class.max(1).clip(MIN_SCORE)
    return np.log(scores / scores.sum(1, keepdims=True))
