"""Training images whose labels look wrong, by what an MLP says of them that learned from the others.

Confident learning: Northcutt, Jiang, Chuang, "Confident Learning: Estimating Uncertainty in Dataset Labels", Journal of
Artificial Intelligence Research 2021, arXiv:1911.00068.
"""

import math
import sys
from dataclasses import dataclass, replace

import numpy as np
from tqdm import tqdm

from pipeline.config import resolve
from pipeline.data.images import Dataset, Splits
from pipeline.training.engine.loop import fit, predict_images
from pipeline.training.engine.state import Training

FOLDS = 4
SEED = 0
# The MLP's accuracy on MNIST hardly rises after so many steps.
STEPS, MAX_EPOCHS = 1_500, 40


@dataclass(frozen=True)
class Suspects:
    """Labels that look wrong, the most suspicious first.

    Attributes:
        positions: (K,), in the training file.
        log_probabilities: (N, classes) of all training images, each from a model that did not learn from it.
    """

    positions: np.ndarray
    log_probabilities: np.ndarray


def find_suspects(dataset: Dataset) -> Suspects | None:
    """Train an MLP on three quarters of the training images after the other, and ask it about the fourth.

    Returns:
        None where a class has too few images for that.
    """
    # Only here: most commands do without, and they take long to import.
    from cleanlab.filter import find_label_issues
    from sklearn.model_selection import StratifiedKFold

    train = dataset.train
    present, labels = np.unique(train.targets, return_inverse=True)
    if np.bincount(labels).min() < FOLDS:
        return None
    found = np.empty((len(train), len(train.classes)), np.float32)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(labels, labels)
    for kept, out in tqdm(folds, "labels", FOLDS, unit="fold", leave=False, disable=not sys.stderr.isatty()):
        parts = Splits(train.subset(kept), train.subset(out), dataset.test)
        config = resolve("mlp", dataset, weights="none", overrides={}, val_size=len(out), seed=SEED)
        epochs = math.ceil(STEPS / math.ceil(len(kept) / config.batch_size))
        training = Training(replace(config, epochs=min(MAX_EPOCHS, max(2, epochs))), parts)
        for _ in fit(training):
            pass
        found[out] = predict_images(training, parts.val.images)
    shares = np.exp(found[:, present].astype(np.float64))
    positions = find_label_issues(
        labels, shares / shares.sum(1, keepdims=True), return_indices_ranked_by="self_confidence", n_jobs=1
    )
    return Suspects(np.asarray(positions), found)
