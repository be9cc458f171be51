"""Scores of classes: log-probabilities (N, classes) against targets (N,)."""

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score

# As many as Guo et al. take.
CALIBRATION_BINS = 15


def scores(log_probabilities: np.ndarray, targets: np.ndarray) -> dict[str, float]:
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
