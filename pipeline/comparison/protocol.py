"""What must be equal for two trainings to be compared, and, apart from it, what was spent on each."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.data import corruptions
from pipeline.data.images import Dataset, Splits
from pipeline.data.splits import SPLIT_SEED
from pipeline.names import short_hash
from pipeline.tracking import schema

# To be counted up when accuracy, F1, loss, or the images they are computed on are defined anew.
METRICS_VERSION = 1
# Fields that differ where the number of training images does, or the data set.
OF_THE_SIZE = ("training_images",)
OF_THE_DATA = ("training_file", "test_file", "training_images", "validation_images", "test_images")
# So much of a hash tells it from any other.
SHOWN = 12


def fields(dataset: Dataset, splits: Splits) -> dict[str, Any]:
    """Everything that two trainings must share so that the better score belongs to the better training.

    Content is told by its hash, so that a renamed or repacked data set is the same one.
    """
    return {
        "training_file": dataset.train.sha256,
        "test_file": dataset.test.sha256,
        "training_images": len(splits.train),
        "validation_images": len(splits.val),
        "test_images": len(splits.test),
        "split_seed": SPLIT_SEED,
        "metrics_version": METRICS_VERSION,
        "chosen_on": "validation",
        "corruptions": short_hash(corruptions.definition()),
    }


def fingerprint(protocol: Mapping[str, Any]) -> str:
    """Short hash of the fields."""
    return short_hash(protocol)


def repeated(tags: Mapping[str, str]) -> str:
    """A warning, as a sentence, where a training's test images were training images as well; else nothing."""
    if not (count := tags.get(schema.REPEATED)):
        return ""
    images = json.loads(tags.get(schema.PROTOCOL_FIELDS, "{}")).get("test_images")
    of = f" of the {images:,}" if images else ""
    return f"{int(count):,}{of} test images are training images as well: the accuracy on them says nothing."


def budget(*, epochs: int, images: int, pretrained: bool) -> dict[str, Any]:
    """What a training may spend: a fair comparison shows it, but does not ask it to be equal."""
    return {
        "epochs": epochs,
        "images_seen": epochs * images,
        "pretrained": pretrained,
    }


def difference(protocol: Mapping[str, Any], other: Mapping[str, Any], *, told: Sequence[str] = ()) -> str:
    """In which fields a protocol differs from another, each with both values, but for those that are told already."""
    if not protocol or not other:
        return "it was not recorded"

    def short(value: Any) -> str:
        return f"{value:,}" if isinstance(value, int) else str(value)[:SHOWN]

    names = [name for name in {**protocol, **other} if protocol.get(name) != other.get(name) and name not in told]
    return "; ".join(f"{name} {short(protocol.get(name))}, not {short(other.get(name))}" for name in names)
