"""Pictures of data and results. Every one says what it shows and what it was measured on."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pipeline.data.images import Dataset, ImageSet
from pipeline.metrics.catalog import SCORE_THRESHOLD
from pipeline.metrics.epoch import Epoch

SAMPLES_PER_CLASS = 12
ERRORS = 25
SUSPECTS = 50
SCENES = 15
COLUMNS = 5
# Beyond this many classes the numbers in the cells of a confusion matrix cannot be read.
MAX_ANNOTATED = 20


def save(pictures: Mapping[str, Figure], folder: Path) -> None:
    """Write pictures into a folder, by name."""
    for name, figure in pictures.items():
        figure.savefig(folder / f"{name}.png", dpi=110)


def samples(dataset: Dataset) -> Figure:
    """The first training images of every class, one row a class."""
    train = dataset.train
    shown: list[np.ndarray | None] = []
    for label in range(len(train.classes)):
        chosen = train.images[np.flatnonzero(train.targets == label)[:SAMPLES_PER_CLASS]]
        shown += [*chosen, *[None] * (SAMPLES_PER_CLASS - len(chosen))]
    title = f"{dataset.name}: the first training images of each class"
    return _mosaic(shown, title, columns=SAMPLES_PER_CLASS, rows_named=train.classes)


def confusion(counts: np.ndarray, outcomes: Sequence[str], title: str) -> Figure:
    """Counts (classes, outcomes), row the truth and column the prediction; errors coloured, hits only counted."""
    side = max(5.0, min(0.55 * len(outcomes) + 1.5, 14.0))
    figure = Figure(figsize=(side, side), layout="constrained")
    axis = figure.subplots()
    errors = counts * (1 - np.eye(*counts.shape))
    # The hits outnumber the errors so far that on one scale no error would be seen.
    axis.imshow(errors, cmap="Reds", vmin=0, vmax=max(1.0, errors.max()) * 1.4)
    axis.set(title=title, xlabel="predicted class", ylabel="true class")
    axis.set_xticks(range(len(outcomes)), outcomes, rotation=0 if max(map(len, outcomes)) < 3 else 60)
    axis.set_yticks(range(len(counts)), outcomes[: len(counts)])
    if len(outcomes) <= MAX_ANNOTATED:
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


def errors(images: ImageSet, log_probabilities: np.ndarray, outcomes: Sequence[str], title: str) -> Figure:
    """The wrong answers the model was most sure of, with what it said and what is true."""
    predicted, confidence = log_probabilities.argmax(1), np.exp(log_probabilities.max(1))
    wrong = np.flatnonzero(predicted != images.targets)
    shown = wrong[np.argsort(-confidence[wrong], kind="stable")][:ERRORS]
    which = f", the most confident {len(shown)} shown" if len(shown) < len(wrong) else ""
    title = f"{title}\n{len(wrong):,} of {len(images):,} wrong{which}"
    captions = [
        f"said {outcomes[predicted[position]]} ({confidence[position]:.0%})\n"
        f"is {outcomes[images.targets[position]]}, no. {position}"
        for position in shown
    ]
    return _mosaic(list(images.images[shown]), title, columns=COLUMNS, captions=captions, side=1.3)


def suspects(images: ImageSet, positions: np.ndarray, log_probabilities: np.ndarray, title: str) -> Figure:
    """Images whose labels look wrong, the most suspicious first, with their label and what a model says instead.

    Args:
        log_probabilities: (N, classes) of all images.
    """
    shown, classes = positions[:SUSPECTS], images.classes
    captions = [
        f"{classes[images.targets[position]]}, or {classes[log_probabilities[position].argmax()]}?\nno. {position}"
        for position in shown
    ]
    title = f"{title}\nthe first {len(shown)} of {len(positions):,}"
    return _mosaic(list(images.images[shown]), title, columns=2 * COLUMNS, captions=captions, side=1.0)


def detections(scenes: ImageSet, found: np.ndarray, right: np.ndarray, chosen: Sequence[int], title: str) -> Figure:
    """Scenes with the true boxes in grey and the sure predicted ones in colour, with class and score.

    Args:
        scenes: targets (N, D, 5), as `models/faster_rcnn.py` describes them.
        found: (N, K, 6) likewise.
        right: (N, K), which of them are right.
        chosen: positions of the scenes, of which the first SCENES are shown.
    """
    shown = list(chosen[:SCENES])
    key = f"grey: true; blue: predicted with a score of at least {SCORE_THRESHOLD}; red: so, but wrong"
    figure, axes = _grid(len(shown), 2.2, 2.4, f"{title} {len(shown)}\n{key}")
    for axis, position in zip(axes, shown, strict=True):
        # The digits fainter than the frames and words over them.
        axis.imshow(scenes.images[position] * 0.55, cmap="gray_r", vmin=0, vmax=255)
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_color("0.85")
        for *box, label in scenes.targets[position]:
            if label >= 0:
                _frame(axis, box, color="0.6", linewidth=3)
        for (*box, score, label), hit in zip(found[position], right[position], strict=True):
            if score >= SCORE_THRESHOLD:
                color = "tab:blue" if hit else "tab:red"
                _frame(axis, box, color=color, linewidth=1.2)
                # Within the box at its top, where nothing beside it is covered, on its own colour.
                axis.text(
                    *(max(box[0], 0), max(box[1], 0)),
                    f"{scenes.classes[int(label)]} {score:.2f}",
                    fontsize=7,
                    va="top",
                    color="white",
                    bbox={"facecolor": color, "edgecolor": "none", "pad": 0.8},
                )
        axis.set_title(f"no. {position}", fontsize=8)
    return figure


def _grid(count: int, width: float, height: float, title: str) -> tuple[Figure, list[Axes]]:
    """A figure with room for so many pictures of so many inches, up to COLUMNS side by side, and no more."""
    columns, rows = min(COLUMNS, count), -(-count // COLUMNS)
    # As wide as the title needs at least.
    longest = max(map(len, title.splitlines()))
    figure = Figure(figsize=(max(columns * width, 0.085 * longest), rows * height + 0.7), layout="constrained")
    figure.suptitle(title, fontsize=10)
    return figure, [figure.add_subplot(rows, columns, place + 1) for place in range(count)]


def _frame(axis: Axes, box: Sequence[float], **style: Any) -> None:
    """A box drawn between pixels: the centre of the first one is at 0."""
    left, top, right, bottom = box
    axis.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, **style))


def precision_recall(curves: Mapping[int, np.ndarray], classes: Sequence[str], title: str) -> Figure:
    """Precision over recall, a picture for each class with the mean of all behind it."""
    recalls = np.linspace(0, 1, 101)
    mean = np.mean(list(curves.values()), axis=0) if curves else np.zeros(101)
    heading = f"{title}\nprecision over recall, in grey the mean of all classes; average precision {mean.mean():.3f}"
    figure, axes = _grid(len(curves), 2.2, 2.1, heading)
    for axis, (label, curve) in zip(axes, curves.items(), strict=True):
        axis.plot(recalls, mean, color="0.7", linewidth=2.5)
        axis.plot(recalls, curve, color="tab:blue", linewidth=1.5)
        axis.set_title(f"{classes[label]}: {curve.mean():.3f}", fontsize=9)
        axis.set(xlim=(0, 1.02), ylim=(0, 1.03), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.3)
    return figure


def _mosaic(
    images: Sequence[np.ndarray | None],
    title: str,
    *,
    columns: int,
    captions: Sequence[str] = (),
    rows_named: Sequence[str] = (),
    side: float = 0.65,
) -> Figure:
    """Images side by side on one axis: with one for each of them it would take seconds to draw.

    Args:
        images: (H, W) each; a place stays empty for None.
        captions: of two lines, above each.
        rows_named: what stands before each row.
        side: of an image, in inches, as all lengths here.
    """
    columns, rows = min(columns, max(1, len(images))), -(-len(images) // columns)
    gap, above, heading = 0.1, 0.38 if captions else 0.0, 0.25 + 0.17 * len(title.splitlines())
    before = 2 * gap + 0.08 * max(map(len, rows_named), default=0)
    # As wide as the title needs at least.
    needed = before + columns * (side + gap) + gap
    width = max(needed, 0.085 * max(map(len, title.splitlines())))
    before += (width - needed) / 2
    height = heading + rows * (above + side + gap)
    figure = Figure(figsize=(width, height))
    figure.suptitle(title, fontsize=10, y=1 - 0.12 / height, va="top")
    axis = figure.add_axes((0, 0, 1, 1))
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        left, top = before + column * (side + gap), heading + row * (above + side + gap) + above
        if captions:
            axis.text(left + side / 2, top - 0.04, captions[place], ha="center", va="bottom", fontsize=8)
        if rows_named and not column:
            axis.text(left - gap, top + side / 2, rows_named[row], ha="right", va="center", fontsize=10)
        if image is not None:
            high, wide = (side * length / max(image.shape) for length in image.shape)
            extent = (left, left + wide, top + high, top)
            axis.imshow(image, cmap="gray_r", vmin=0, vmax=255, extent=extent)
    axis.set(xlim=(0, width), ylim=(height, 0))
    axis.set_axis_off()
    return figure
