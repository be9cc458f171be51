"""What there is to know of a data set before training on it."""

import numpy as np

from pipeline.data.images import Dataset, ImageSet


def describe(dataset: Dataset) -> dict:
    """What there is to know of a data set before training on it, as plain JSON."""
    seen = {image.tobytes() for image in dataset.train.images}
    return {
        "name": dataset.name,
        "source": dataset.source,
        "sha256": dataset.sha256,
        "classes": list(dataset.classes),
        "test_images_also_in_train": sum(image.tobytes() in seen for image in dataset.test.images),
        "train": _describe(dataset.train),
        "test": _describe(dataset.test),
    }


def _describe(part: ImageSet) -> dict:
    counts = np.bincount(part.targets, minlength=len(part.classes))
    return {
        "images": len(part),
        "height": part.images.shape[1],
        "width": part.images.shape[2],
        "mean": round(float(part.images.mean() / 255), 4),
        "std": round(float(part.images.std() / 255), 4),
        "images_per_class": dict(zip(part.classes, counts.tolist(), strict=True)),
        "absent_classes": [name for name, count in zip(part.classes, counts, strict=True) if not count],
        "sha256": part.sha256,
    }
