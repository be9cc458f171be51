"""The arithmetic of the training loop: three steps of every recipe give the losses they always gave.

    PYTHONPATH=.:tests python tests/unit/test_recorded_losses.py

records them anew. Whoever does so counts TRAINING_VERSION up: trainings of before are then no longer the same.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from pipeline import config
from pipeline.data.images import Dataset, ImageSet
from pipeline.data.splits import split
from pipeline.training.engine.loop import fit
from pipeline.training.engine.state import Training

RECORDED = Path(__file__).with_name("recorded_losses.json")
# Processors round differently; another momentum or schedule moves a loss further than this.
TOLERANCE = 1e-4
# Batch normalisation of two pixels a channel makes more of the same differences.
TOLERANCES = {"mobilenet_v2": 1e-2}


def bars(count: int) -> ImageSet:
    """Class k is a bright bar in row 2 + 2k, over noise."""
    images = np.random.default_rng(0).integers(0, 60, (count, 28, 28)).astype(np.uint8)
    labels = np.arange(count) % 10
    for image, label in zip(images, labels, strict=True):
        image[2 + 2 * label : 4 + 2 * label] = 220
    return ImageSet(images, labels, tuple("0123456789"))


def losses(name: str, optimizer: str | None = None) -> list[float]:
    """Training loss over three steps, and loss on validation after them, in fp32 on one thread."""
    dataset = Dataset("bars", "made", bars(44), bars(20))
    overrides = {"epochs": 1, "batch_size": 8, "precision": "fp32", **({"optimizer": optimizer} if optimizer else {})}
    resolved = config.resolve(name, dataset, weights="none", overrides=overrides, val_size=20, device="cpu")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        (epoch,) = fit(Training(resolved, split(dataset, val_size=20, limit=0)))
    finally:
        torch.set_num_threads(threads)
    return [epoch.metrics["train/loss"], epoch.metrics["val/loss"]]


CASES = {name: (name, None) for name in models.names()} | {
    "mlp with sgd": ("mlp", "sgd"),
    "mlp with adam": ("mlp", "adam"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_losses_are_those_recorded_for_this_version(case):
    recorded = json.loads(RECORDED.read_text())
    assert recorded["training_version"] == config.TRAINING_VERSION, (
        "record them anew: PYTHONPATH=.:tests python tests/unit/test_recorded_losses.py"
    )
    assert losses(*CASES[case]) == pytest.approx(recorded["losses"][case], rel=TOLERANCES.get(case, TOLERANCE)), (
        "the same config and seed train otherwise: count TRAINING_VERSION in pipeline/config.py up, "
        "then run PYTHONPATH=.:tests python tests/unit/test_recorded_losses.py"
    )


if __name__ == "__main__":
    found = {case: losses(*arguments) for case, arguments in CASES.items()}
    content = {"training_version": config.TRAINING_VERSION, "losses": found}
    RECORDED.write_text(json.dumps(content, indent=2) + "\n")
