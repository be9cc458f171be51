"""Images with labels come in many forms, and whatever the form, they become the same data set."""

import gzip
import io
import json
import os
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from support import MNIST, idx_bytes, needs_mnist

from pipeline.data import sources
from pipeline.data.forms import class_folders, fitting, tables
from pipeline.data.forms.fitting import Fitting
from pipeline.data.images import Dataset
from pipeline.data.pictures import png
from pipeline.errors import InputError
from pipeline.names import natural

LETTERS = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture(scope="module")
def same(bars) -> Dataset:
    """The data set that is written in every form."""
    return sources.load(str(bars), bars)


def load(path: Path, **fitting_options) -> Dataset:
    return sources.load(str(path), path, Fitting(**fitting_options))


def parts(dataset: Dataset):
    return (("train", dataset.train), ("test", dataset.test))


# --- Writing data sets in every form ---------------------------------------------------------------------------------


def write_class_folders(folder: Path, dataset: Dataset, *, train: str = "train", test: str = "test") -> None:
    for part, images in ((train, dataset.train), (test, dataset.test)):
        for number, (image, target) in enumerate(zip(images.images, images.targets, strict=True)):
            file = folder / part / images.classes[target] / f"img_{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(png(image))


def frame(images, *, first: bool = True, name: str = "label", pixel: str = "pixel{}") -> pd.DataFrame:
    flat = images.images.reshape(len(images), -1)
    table = pd.DataFrame(flat, columns=[pixel.format(number) for number in range(flat.shape[1])])
    table.insert(0 if first else flat.shape[1], name, images.targets)
    return table


def write_kaggle(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        frame(images).to_csv(folder / f"{part}.csv", index=False)


def write_mnist_in_csv(folder: Path, dataset: Dataset) -> None:
    names = {f"pixel{number}": f"{number // 28 + 1}x{number % 28 + 1}" for number in range(784)}
    for part, images in parts(dataset):
        frame(images).rename(columns=names).to_csv(folder / f"mnist_{part}.csv", index=False)


def write_without_header(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        frame(images).to_csv(folder / f"mnist_{part}.csv", index=False, header=False)


def write_label_last(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        frame(images, first=False, name="class").to_csv(folder / f"{part}.csv", index=False)


def write_label_last_without_header(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        frame(images, first=False).to_csv(folder / f"{part}.csv", index=False, header=False)


def write_semicolons(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        frame(images).to_csv(folder / f"{part}.csv", sep=";", index=False, quoting=1)


def write_index_column(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        frame(images).to_csv(folder / f"{part}.csv")


def write_comma_at_the_end(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        text = frame(images).to_csv(index=False).replace("\n", ",\r\n")
        (folder / f"{part}.csv").write_text("\ufeff" + text, newline="")


def write_gz_and_tsv(folder: Path, dataset: Dataset) -> None:
    frame(dataset.train).to_csv(folder / "train.csv.gz", index=False)
    frame(dataset.test).to_csv(folder / "test.tsv", index=False, sep="\t")


def write_shuffled_columns(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        frame(images, name="digit").sample(frac=1, axis=1, random_state=0).to_csv(folder / f"{part}.csv", index=False)


def write_pixel_parquet(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        frame(images).to_parquet(folder / f"{part}.parquet")


def write_hugging_face(folder: Path, dataset: Dataset) -> None:
    (folder / "mnist").mkdir()
    about = {"info": {"features": {"label": {"names": list(dataset.classes), "_type": "ClassLabel"}}}}
    for part, images in parts(dataset):
        half = len(images) // 2
        for number, rows in enumerate((slice(half), slice(half, None))):
            content = [{"bytes": png(image), "path": None} for image in images.images[rows]]
            table = pa.table({"image": content, "label": images.targets[rows]})
            table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
            parquet.write_table(table, folder / "mnist" / f"{part}-{number:05d}-of-00002-0123456789abcdef.parquet")


def write_keras(folder: Path, dataset: Dataset) -> None:
    arrays = {}
    for part, images in parts(dataset):
        arrays |= {f"x_{part}": images.images, f"y_{part}": images.targets.astype(np.uint8)}
    np.savez(folder / "mnist.npz", **arrays)


def write_medmnist(folder: Path, dataset: Dataset) -> None:
    train, arrays = dataset.train, {}
    for part, images in (("train", train.subset(np.arange(80))), ("val", train.subset(np.arange(80, len(train))))):
        arrays |= {f"{part}_images": images.images, f"{part}_labels": images.targets[:, None].astype(np.uint8)}
    arrays |= {"test_images": dataset.test.images, "test_labels": dataset.test.targets[:, None]}
    np.savez_compressed(folder / "bloodmnist.npz", **dict(reversed(arrays.items())))


def write_kmnist(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        np.savez_compressed(folder / f"kmnist-{part}-imgs.npz", images.images)
        np.savez_compressed(folder / f"kmnist-{part}-labels.npz", images.targets)


def write_npy_pairs(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        np.save(folder / f"X_{part}.npy", np.asfortranarray(images.images[..., None].astype(np.float32)))
        np.save(folder / f"y_{part}.npy", np.eye(10)[images.targets])


def write_npy_flat(folder: Path, dataset: Dataset) -> None:
    for part, images in parts(dataset):
        np.save(folder / f"{part}_images.npy", images.images.reshape(len(images), -1).astype(np.int64))
        np.save(folder / f"{part}_labels.npy", images.targets.astype(str))


def idx_file(array: np.ndarray, kind: int = 8, type_: str = ">u1") -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, kind, array.ndim]) + sizes + array.astype(type_).tobytes()


def write_idx(folder: Path, dataset: Dataset, images_name: str, labels_name: str, **how) -> None:
    for part, images in (("train", dataset.train), (how.get("test", "t10k"), dataset.test)):
        for name, array, kind in (
            (images_name, images.images, how.get("images", idx_file)),
            (labels_name, images.targets, how.get("labels", idx_file)),
        ):
            file = folder / how.get("below", "") / name.format(part)
            file = file.with_name(file.name.upper()) if how.get("capitals") else file
            file.parent.mkdir(parents=True, exist_ok=True)
            content = kind(array)
            file.write_bytes(gzip.compress(content) if file.suffix.lower() == ".gz" else content)


OFFICIAL = ("{}-images-idx3-ubyte", "{}-labels-idx1-ubyte")


def qmnist_labels(targets: np.ndarray) -> bytes:
    return idx_file(np.column_stack([targets, *[targets + 100] * 7]), 0x0C, ">i4")


def turned(images: np.ndarray) -> bytes:
    return idx_file(images.transpose(0, 2, 1))


FORMS = {
    "class folders": write_class_folders,
    "class folders, other names": lambda folder, same: write_class_folders(
        folder / "archive", same, train="trainingSet/trainingSet", test="Testing"
    ),
    "Kaggle's CSV": write_kaggle,
    "MNIST in CSV": write_mnist_in_csv,
    "CSV without header": write_without_header,
    "CSV, label last": write_label_last,
    "CSV, label last, without header": write_label_last_without_header,
    "CSV with semicolons and quotes": write_semicolons,
    "CSV with an index column": write_index_column,
    "CSV with a comma at the end": write_comma_at_the_end,
    "CSV compressed, TSV": write_gz_and_tsv,
    "CSV, columns in any order": write_shuffled_columns,
    "parquet of pixels": write_pixel_parquet,
    "parquet of pictures": write_hugging_face,
    "Keras's npz": write_keras,
    "MedMNIST's npz": write_medmnist,
    "KMNIST's npz": write_kmnist,
    "npy pairs": write_npy_pairs,
    "npy pairs of rows": write_npy_flat,
    "IDX in capitals": lambda folder, same: write_idx(folder, same, *OFFICIAL, capitals=True),
    "IDX .GZ in capitals": lambda folder, same: write_idx(folder, same, *(f"{n}.gz" for n in OFFICIAL), capitals=True),
    "IDX with underscores": lambda folder, same: write_idx(
        folder, same, "{}_images_idx3_ubyte", "{}_labels_idx1_ubyte", test="test"
    ),
    "torchvision's folder": lambda folder, same: write_idx(folder, same, *OFFICIAL, below="MNIST/raw"),
    "IDX, labels of int32": lambda folder, same: write_idx(
        folder, same, *OFFICIAL, labels=lambda targets: idx_file(targets, 0x0C, ">i4")
    ),
    "QMNIST's IDX": lambda folder, same: write_idx(
        folder, same, "qmnist-{}-images-idx3-ubyte", "qmnist-{}-labels-idx2-int.gz", labels=qmnist_labels, test="test"
    ),
    "IDX with a last axis of one": lambda folder, same: write_idx(
        folder, same, *OFFICIAL, images=lambda images: idx_file(images[..., None])
    ),
    "EMNIST's IDX": lambda folder, same: write_idx(
        folder, same, *(f"emnist-digits-{name}.gz" for name in OFFICIAL), images=turned, test="test"
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_the_same_images_in_any_form_are_the_same_data_set(tmp_path, same, form):
    folder = tmp_path / "set"
    folder.mkdir()
    FORMS[form](folder, same)
    found = load(folder)
    assert found.classes == same.classes and found.notes == ()
    assert np.array_equal(found.test.targets, same.test.targets)
    assert found.sha256 == same.sha256
