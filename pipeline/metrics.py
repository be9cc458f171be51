"""Scores of predictions against the truth."""

import re

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

# As many as Guo et al. take.
CALIBRATION_BINS = 15


def classification(log_probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
    """Cross-entropy in nats, accuracy and macro-averaged F1 over the classes that occur in the targets.

    Args:
        log_probabilities: (N, classes).
        targets: (N,), indices of classes.
    """
    labels = log_probabilities.argmax(1)
    return {
        "loss": float(-log_probabilities[np.arange(len(targets)), targets].mean(dtype=np.float64)),
        "accuracy": float(accuracy_score(targets, labels)),
        "f1": float(f1_score(targets, labels, labels=np.unique(targets), average="macro", zero_division=0)),
    }


def accuracy(log_probabilities: np.ndarray, targets: np.ndarray, chosen: np.ndarray | slice = slice(None)) -> float:
    """The share of right answers, on the chosen images only."""
    return float((log_probabilities[chosen].argmax(1) == targets[chosen]).mean())


def calibration_error(log_probabilities: np.ndarray, targets: np.ndarray, *, bins: int = CALIBRATION_BINS) -> float:
    """How far confidence is from accuracy: their distance in each bin of confidence, weighted by its images.

    The expected calibration error of Guo et al., "On Calibration of Modern Neural Networks", ICML 2017,
    arXiv:1706.04599.

    Args:
        log_probabilities: (N, classes).
        targets: (N,).
    """
    confidence = np.exp(log_probabilities.max(1).astype(np.float64))
    right = log_probabilities.argmax(1) == targets
    # Bins are closed on the right, as in the paper.
    index = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(index, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(targets))


def confusion(log_probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Counts (outcomes, outcomes): row the truth, column the prediction."""
    return confusion_matrix(targets, log_probabilities.argmax(1), labels=np.arange(log_probabilities.shape[1]))


def per_class(log_probabilities: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    """Precision, recall, F1 and number of images of each class that occurs in the targets, and their averages."""
    present = np.unique(targets)
    report = classification_report(
        targets,
        log_probabilities.argmax(1),
        labels=present,
        target_names=[classes[label] for label in present],
        output_dict=True,
        zero_division=0,
    )
    rows = {name: row for name, row in report.items() if isinstance(row, dict)}
    table = pd.DataFrame(rows).T.rename(columns={"f1-score": "f1", "support": "images"})
    return table.astype({"images": int}).rename_axis("class").reset_index()


def predictions_table(log_probabilities: np.ndarray, targets: np.ndarray, outcomes: tuple[str, ...]) -> pd.DataFrame:
    """One row an image: its position in the test file, truth, prediction and the probability of every outcome."""
    probabilities = np.exp(log_probabilities)
    names = np.array(outcomes)
    head = pd.DataFrame(
        {
            "index": np.arange(len(targets)),
            "target": names[targets],
            "prediction": names[probabilities.argmax(1)],
            "confidence": probabilities.max(1),
        }
    )
    return head.join(pd.DataFrame(probabilities, columns=[f"probability_{name}" for name in outcomes]))


# --- Detection: predictions (N, K, 6) and targets (N, D, 5), as models/faster_rcnn.py describes them ------------------

# A detection counts as an answer from this score on, and as the right one from this overlap with the truth on.
SURE = 0.5
HIT = 0.5


def detection(predictions: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> dict[str, float]:
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
    """Precision at the recalls 0, 0.01, ... 1 for an overlap of HIT, by class."""
    found = _coco(predictions, targets)
    # Axes of the precision: overlaps, recalls, classes, areas of boxes (all first), numbers of boxes (most last).
    curves = found["precision"][0, :, :, 0, -1].T
    return {
        int(label): curve for label, curve in zip(found["classes"].reshape(-1), curves, strict=True) if curve.min() >= 0
    }


def match(predictions: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which objects (N, D) have a sure detection of their class, and which detections (N, K) an object of theirs."""
    import torch
    from torchvision.ops import box_iou

    overlaps = box_iou(torch.from_numpy(targets[..., :4]).float(), torch.from_numpy(predictions[..., :4])).numpy()
    there, sure = targets[..., 4] >= 0, predictions[..., 4] >= SURE
    hits = (overlaps >= HIT) & (targets[..., :, None, 4] == predictions[..., None, :, 5])
    return (hits & sure[:, None, :]).any(2) & there, (hits & there[:, :, None]).any(1)


def _coco(predictions: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    metric = MeanAveragePrecision(backend="faster_coco_eval", class_metrics=True, extended_summary=True)
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
