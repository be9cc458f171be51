"""Scores with known answers."""

import numpy as np
import pytest

from pipeline.metrics import classification

# Four images of three classes; the third is taken for class 0.
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.1, 0.4], [0.2, 0.2, 0.6]])
TARGETS = np.array([0, 1, 2, 2])


def test_loss_accuracy_and_macro_f1():
    scores = classification.scores(np.log(PROBABILITIES), TARGETS)
    assert scores["loss"] == pytest.approx(-np.log([0.7, 0.8, 0.4, 0.6]).mean())
    assert scores["accuracy"] == 0.75
    # Class 0: precision 1/2, recall 1; class 1: both 1; class 2: precision 1, recall 1/2.
    assert scores["f1"] == pytest.approx((2 / 3 + 1 + 2 / 3) / 3)


def test_confusion_has_the_truth_in_rows():
    assert classification.confusion(np.log(PROBABILITIES), TARGETS).tolist() == [[1, 0, 0], [0, 1, 0], [1, 0, 1]]


def test_tables_name_the_classes():
    classes = ("zero", "one", "two")
    table = classification.per_class(np.log(PROBABILITIES), TARGETS, classes).set_index("class")
    assert table.loc["two", "recall"] == 0.5 and table.loc["two", "images"] == 2
    predictions = classification.predictions_table(np.log(PROBABILITIES), TARGETS, classes)
    assert predictions["prediction"].tolist() == ["zero", "one", "zero", "two"]
    assert predictions["probability_two"].tolist() == pytest.approx([0.1, 0.1, 0.4, 0.6])
