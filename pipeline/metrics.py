"""Scores of predictions against the truth."""

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, classification_report, confusion_matrix, f1_score


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


def confusion(log_probabilities: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Counts (classes, classes): row the truth, column the prediction."""
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


def predictions_table(log_probabilities: np.ndarray, targets: np.ndarray, classes: tuple[str, ...]) -> pd.DataFrame:
    """One row an image: its position in the test file, truth, prediction and the probability of every class."""
    probabilities = np.exp(log_probabilities)
    names = np.array(classes)
    head = pd.DataFrame(
        {
            "index": np.arange(len(targets)),
            "target": names[targets],
            "prediction": names[probabilities.argmax(1)],
            "confidence": probabilities.max(1),
        }
    )
    return head.join(pd.DataFrame(probabilities, columns=[f"probability_{name}" for name in classes]))
