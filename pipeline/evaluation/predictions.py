"""What a model answered to test images, as pictures and tables that go with its run."""

from pathlib import Path

import numpy as np

from pipeline.data.images import ImageSet
from pipeline.metrics import classification
from pipeline.tracking.schema import ERRORS, PREDICTIONS

# Wrong answers whose images are kept, for whoever looks at the run without the data set.
MAX_ERRORS = 1000


def write_predictions(
    folder: Path, test: ImageSet, log_probabilities: np.ndarray, *, outcomes: tuple[str, ...], about: str
) -> None:
    """Write confusion matrix, the most confident errors, scores by class and every answer into a folder.

    Args:
        log_probabilities: (N, outcomes).
        outcomes: what an image can be taken for, the classes first.
        about: what the pictures are of.
    """
    # Only now: a training begins a second earlier without what draws.
    from pipeline.evaluation import figures

    targets, classes = test.targets, test.classes
    counts = classification.confusion(log_probabilities, targets)[: len(classes)]
    pictures = {
        "confusion_matrix": figures.confusion(counts, outcomes, about),
        "errors": figures.errors(test, log_probabilities, outcomes, about),
    }
    figures.save(pictures, folder)
    classification.per_class(log_probabilities, targets, classes).to_csv(
        folder / "per_class.csv", index=False, float_format="%.4f"
    )
    write_answers(folder / PREDICTIONS, log_probabilities, targets, outcomes)
    wrong = np.flatnonzero(log_probabilities.argmax(1) != targets)[:MAX_ERRORS]
    np.savez_compressed(folder / ERRORS, index=wrong, images=test.images[wrong])


def write_answers(path: Path, log_probabilities: np.ndarray, targets: np.ndarray, outcomes: tuple[str, ...]) -> None:
    """Write every answer into a table, with log-probabilities (N, outcomes)."""
    table = classification.predictions_table(log_probabilities, targets, outcomes)
    table.to_csv(path, index=False, float_format="%.6g")
