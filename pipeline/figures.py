"""Pictures of data and results. Every one says what it shows and what it was measured on."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.data import Dataset, ImageSet
from pipeline.engine import Epoch

SAMPLES_PER_CLASS = 12
ERRORS = 25
# Beyond this many classes the numbers in the cells of a confusion matrix cannot be read.
LARGEST_ANNOTATED = 20


def samples(dataset: Dataset) -> Figure:
    """The first training images of every class, one row a class."""
    train = dataset.train
    figure = Figure(figsize=(SAMPLES_PER_CLASS * 0.7, len(train.classes) * 0.7 + 0.6), layout="constrained")
    figure.suptitle(f"{dataset.name}: the first training images of each class")
    axes = figure.subplots(len(train.classes), SAMPLES_PER_CLASS, squeeze=False)
    for label, row in enumerate(axes):
        chosen = np.flatnonzero(train.targets == label)[:SAMPLES_PER_CLASS]
        for column, axis in enumerate(row):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            if column < len(chosen):
                _show(axis, train.images[chosen[column]])
        row[0].set_ylabel(train.classes[label], rotation=0, ha="right", va="center")
    return figure


def confusion(counts: np.ndarray, classes: Sequence[str], title: str) -> Figure:
    """Counts (classes, classes), row the truth and column the prediction; errors coloured, hits only counted."""
    side = max(5.0, min(0.55 * len(classes) + 1.5, 14.0))
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    errors = counts * (1 - np.eye(len(classes)))
    # The hits outnumber the errors so far that on one scale no error would be seen.
    axis.imshow(errors, cmap="Reds", vmin=0, vmax=max(1.0, errors.max()) * 1.4)
    ticks = np.arange(len(classes))
    axis.set(title=title, xlabel="predicted class", ylabel="true class")
    axis.set_xticks(ticks, classes, rotation=0 if max(map(len, classes)) < 3 else 60)
    axis.set_yticks(ticks, classes)
    if len(classes) <= LARGEST_ANNOTATED:
        for row, column in np.argwhere(counts):
            weight = "bold" if row == column else "normal"
            axis.text(column, row, counts[row, column], ha="center", va="center", weight=weight)
    return figure


def learning_curves(history: Sequence[Epoch], best: Epoch, title: str) -> Figure:
    """Loss and accuracy over the epochs, the chosen epoch marked."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    figure.suptitle(title)
    loss, score = figure.subplots(1, 2)
    epochs = [epoch.index for epoch in history]
    for axis, names in ((loss, ("train/loss", "val/loss")), (score, ("val/accuracy", "val/f1"))):
        for name, style in zip(names, ("-", "--"), strict=True):
            axis.plot(epochs, [epoch.metrics[name] for epoch in history], style, marker=".", label=name)
        axis.axvline(best.index, color="grey", linestyle=":", label=f"tested: epoch {best.index}")
        axis.set_xlabel("epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend()
        axis.grid(alpha=0.3)
    loss.set_ylabel("cross-entropy (train: the objective)")
    score.set_ylabel("share of the validation images")
    return figure


def errors(images: ImageSet, log_probabilities: np.ndarray, title: str) -> Figure:
    """The wrong answers the model was most sure of, with what it said and what is true."""
    predicted, confidence = log_probabilities.argmax(1), np.exp(log_probabilities.max(1))
    wrong = np.flatnonzero(predicted != images.targets)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:ERRORS]
    columns = 5
    rows = max(1, -(-len(shown) // columns))
    figure = Figure(figsize=(columns * 1.5, rows * 1.75 + 0.8), layout="constrained")
    figure.suptitle(f"{title}\n{len(wrong):,} of {len(images):,} wrong, the most confident {len(shown)} shown")
    for axis, position in zip(
        figure.subplots(rows, columns, squeeze=False).flat, [*shown, *[None] * ERRORS], strict=False
    ):
        axis.set_axis_off()
        if position is not None:
            _show(axis, images.images[position])
            said, true = images.classes[predicted[position]], images.classes[images.targets[position]]
            axis.set_title(f"said {said} ({confidence[position]:.0%})\nis {true}, no. {position}", fontsize=8)
    return figure


def _show(axis: Axes, image: np.ndarray) -> None:
    axis.imshow(image, cmap="gray_r", vmin=0, vmax=255)
