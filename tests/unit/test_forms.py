"""Images with labels come in many forms, and whatever the form, they become the same data set."""

import gzip
import io
import json
import os
import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from pyarrow import parquet
from sklearn import model_selection  # noqa: F401, as what a test is the first to import would count as its memory
from support import idx_bytes

from pipeline.data import folders, grey, sources
from pipeline.data.forms.fitting import Fitting
from pipeline.data.forms.parts import Part
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


# --- What becomes of a file's or a folder's details ------------------------------------------------------------------


def test_one_file_is_a_data_set_of_which_a_sixth_is_the_test(tmp_path, same):
    frame(same.train).to_csv(tmp_path / "my.digits.csv", index=False)
    found = load(tmp_path / "my.digits.csv")
    assert found.name == "my" and (len(found.train), len(found.test)) == (100, 20)
    assert np.bincount(found.test.targets).tolist() == [2] * 10
    assert "20 of its 120 images" in found.notes[0] and "no test file" in found.notes[0]
    assert load(tmp_path / "my.digits.csv").sha256 == found.sha256


def test_kaggles_test_table_without_labels_is_left_out_and_said(tmp_path, same):
    frame(same.train).to_csv(tmp_path / "train.csv", index=False)
    frame(same.test).drop(columns="label").to_csv(tmp_path / "test.csv", index=False)
    pd.DataFrame({"ImageId": range(28), "Label": 0}).to_csv(tmp_path / "sample_submission.csv", index=False)
    found = load(tmp_path)
    assert len(found.train) == 100
    assert "test.csv has no labels and is left out" in found.notes[0] and "no test file" in found.notes[1]


def test_class_folders_alone_in_natural_order_with_what_systems_leave_there(tmp_path, same):
    folder = tmp_path / "set"
    write_class_folders(folder, same, train="", test="")
    (folder / "9").rename(folder / "10")
    for leftover in (
        "._3.png",
        ".hidden.png",
        "Thumbs.db",
        "__MACOSX/._3.png",
        ".ipynb_checkpoints/img_3-checkpoint.png",
    ):
        (folder / "3" / leftover).parent.mkdir(exist_ok=True)
        (folder / "3" / leftover).write_bytes(b"no picture")
    (folder / "__MACOSX" / "3").mkdir(parents=True)
    (folder / "__MACOSX" / "3" / "._img.png").write_bytes(b"no picture")
    (folder / "3" / "x.png").mkdir()
    (folder / "3" / "notes.txt").write_text("written on a Monday")
    found = load(folder)
    assert found.classes == (*"012345678", "10")
    assert len(found.train) + len(found.test) == 120
    assert "1 files among the pictures are of no known kind and left out" in found.notes[0]
    assert "notes.txt" in found.notes[0] and "no test file" in found.notes[1]


def test_pictures_outside_of_class_folders_are_counted_and_named(tmp_path, same):
    write_class_folders(tmp_path, same)
    picture = png(same.train.images[0])
    for stray in ("a.png", "train/b.png", "unsorted/3/c.png"):
        (tmp_path / stray).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / stray).write_bytes(picture)
    found = load(tmp_path)
    assert found.sha256 == same.sha256
    assert "3 pictures outside of the folders of classes are left out" in found.notes[0]
    assert all(name in found.notes[0] for name in ("a.png", "b.png", "c.png"))


def moved(folder: Path, place) -> None:
    """Put every picture train/CLASS/NAME elsewhere."""
    for file in list(folder.rglob("*.png")):
        part, name = file.relative_to(folder).parts[:2]
        target = folder / place(part, name, int(file.stem.split("_")[1])) / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        file.rename(target)
    for part in ("train", "test"):
        for empty in (folder / part).glob("[0-9]"):
            if not list(empty.iterdir()):
                empty.rmdir()
        if not list((folder / part).iterdir()):
            (folder / part).rmdir()


LAYOUTS = {
    "capitals": lambda part, name, number: f"{part.upper()}/{name}",
    "one folder around": lambda part, name, number: f"archive/digits/{part}/{name}",
    "parts within the classes": lambda part, name, number: f"{name}/{part.title()}",
    "writers within the classes": lambda part, name, number: f"{part}/{name}/{('anna', 'ben')[number % 2]}",
    "writers around the classes": lambda part, name, number: f"{part}/{('anna', 'ben')[number % 2]}/{name}",
    "writers within one class": lambda part, name, number: (
        f"{part}/{name}{('/anna', '/ben')[number % 2] * (name == '7')}"
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_class_folders_in_every_place_are_the_same_classes(tmp_path, same, layout):
    write_class_folders(tmp_path, same)
    moved(tmp_path, LAYOUTS[layout])
    found = load(tmp_path)
    assert (found.classes, len(found.train), len(found.test)) == (same.classes, len(same.train), len(same.test))
    for (_, loaded), (_, known) in zip(parts(found), parts(same), strict=True):
        assert sorted(
            (image.tobytes(), target) for image, target in zip(loaded.images, loaded.targets, strict=True)
        ) == (sorted((image.tobytes(), target) for image, target in zip(known.images, known.targets, strict=True)))
    assert any("within those of classes count to these" in note for note in found.notes) == (
        "within" in layout and "parts" not in layout
    )


NAMES_OF_PARTS = {
    "words": ("train_images", "test_images"),
    "words with numbers": ("Train Data (1)", "Test Data (1)"),
    "short": ("01_trn", "02_tst"),
    "the set's name before": ("MNISTTrain", "MNISTTest"),
}


@pytest.mark.parametrize("names", NAMES_OF_PARTS.values(), ids=NAMES_OF_PARTS)
@pytest.mark.parametrize("classes", ["characters", "words"])
def test_names_of_many_words_tell_the_parts(tmp_path, same, names, classes):
    write_class_folders(tmp_path, same, train=names[0], test=names[1])
    if classes == "words":
        for folder in list(tmp_path.glob("*/*")):
            folder.rename(folder.with_name(f"digit {folder.name}"))
    found = load(tmp_path)
    assert (len(found.train), len(found.test), found.notes) == (len(same.train), len(same.test), ())
    assert [name[-1] for name in found.classes] == list(same.classes)


def test_a_word_in_the_name_of_one_class_tells_no_part(tmp_path, same):
    write_class_folders(tmp_path, same)
    for number, folder in enumerate(sorted(tmp_path.glob("train/*"))[:2]):
        folder.rename(tmp_path / "train" / ("test tubes", "beakers")[number])
    found = load(tmp_path / "train")
    assert {"test tubes", "beakers"} < set(found.classes) and "no test file" in found.notes[-1]


def test_folders_of_several_data_sets_are_refused(tmp_path, same):
    for name in ("mnist", "usps"):
        write_class_folders(tmp_path / name, same)
    with pytest.raises(InputError, match=r"several data sets, as .*mnist, .*usps"):
        load(tmp_path)
    assert len(load(tmp_path / "usps").test) == len(same.test)


def test_classes_with_folders_in_them_are_named(tmp_path, same):
    write_class_folders(tmp_path, same)
    for writer in ("anna", "bob"):
        shutil.copytree(tmp_path / "train", tmp_path / "all" / writer, dirs_exist_ok=True)
        for folder in (tmp_path / "all" / writer).iterdir():
            folder.rename(folder.with_name(f"digit {folder.name}"))
    assert any("the classes are anna, bob" in note for note in load(tmp_path / "all").notes)


def test_what_is_not_used_is_named(tmp_path, same):
    write_class_folders(tmp_path, same)
    frame(same.test).to_csv(tmp_path / "extra.csv", index=False)
    (note,) = load(tmp_path).notes
    assert "1 file of another form" in note and "extra.csv" in note

    table = frame(same.train).assign(writer="anna")
    table.to_csv(tmp_path / "a.csv", index=False)
    assert any("a.csv" in note and "left out: writer" in note for note in load(tmp_path / "a.csv").notes)
    arrays = {"x": same.train.images, "y": same.train.targets, "weight": np.ones(3)}
    np.savez(tmp_path / "a.npz", **arrays)
    assert any("1 array" in note and "weight" in note for note in load(tmp_path / "a.npz").notes)


@pytest.mark.parametrize("column", ["split", "Usage"])
def test_a_column_that_may_tell_the_parts_is_refused(tmp_path, same, column):
    frame(same.train).assign(**{column: "train"}).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(InputError, match=f"a column '{column}', which may tell training from test"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        ("train.npz/x, train.npz/y", "test.npz/x, test.npz/y"),
        ("train/images, train/labels", "test/images, test/labels"),
        ("all.npz/train_x, all.npz/train_y", "all.npz/eval_x, all.npz/eval_y"),
        ("all.npz/x_train, all.npz/y_train", "all.npz/x_holdout, all.npz/y_holdout"),
        ("all.npz/x_trn, all.npz/y_trn", "all.npz/x_tst, all.npz/y_tst"),
    ],
)
def test_the_part_of_an_array_is_told_by_its_name_its_file_or_its_folder(tmp_path, same, train, test):
    archives: dict[str, dict[str, np.ndarray]] = {}
    for names, part in ((train, same.train), (test, same.test)):
        for name, array in zip(names.split(", "), (part.images, part.targets), strict=True):
            file, key = name.split("/")
            if file.endswith(".npz"):
                archives.setdefault(file, {})[key] = array
            else:
                (tmp_path / file).mkdir(exist_ok=True)
                np.save(tmp_path / file / key, array)
    for file, arrays in archives.items():
        np.savez(tmp_path / file, **arrays)
    found = load(tmp_path)
    assert (found.sha256, found.notes) == (same.sha256, ())


@pytest.mark.parametrize("form", ["csv", "npz"])
def test_files_of_several_data_sets_in_folders_are_refused(tmp_path, same, form):
    for name in ("digits", "fashion"):
        (tmp_path / name).mkdir()
        if form == "csv":
            frame(same.train).to_csv(tmp_path / name / "train.csv", index=False)
        else:
            np.savez(tmp_path / name / "d.npz", x=same.train.images, y=same.train.targets)
    with pytest.raises(InputError, match="several data sets"):
        load(tmp_path)


@pytest.mark.parametrize("names", ["x{column}_y{row}", "{row}x{column}", "r{row}c{column}", "{column}x{row}"])
def test_names_of_two_numbers_are_read_row_by_row(tmp_path, same, names):
    side = same.train.images.shape[1]
    columns = {f"pixel{at}": names.format(row=at // side, column=at % side) for at in range(side**2)}
    frame(same.train).rename(columns=columns).to_csv(tmp_path / "a.csv", index=False)
    frame(same.train).to_csv(tmp_path / "b.csv", index=False)
    assert load(tmp_path / "a.csv").sha256 == load(tmp_path / "b.csv").sha256


def test_pixels_in_two_orders_are_refused(tmp_path, same):
    side = same.train.images.shape[1]
    columns = {f"pixel{at}": f"x{at % side}_y{at // side}" for at in range(side**2)}
    table = frame(same.train).rename(columns=columns)
    table.to_csv(tmp_path / "train.csv", index=False)
    table[["label", *sorted(columns.values())]].to_csv(tmp_path / "test.csv", index=False)
    with pytest.raises(InputError, match="pixels in two orders"):
        load(tmp_path)


def test_parquet_says_which_bytes_are_pictures_and_what_labels_are_called(tmp_path):
    (tmp_path / "a.parquet").write_bytes(table_of([[b"no"] * 6, PICTURES, [0, 1] * 3], ["mask", "image", "label"]))
    found = load(tmp_path)
    assert len(found.train) + len(found.test) == 6 and "left out: mask" in found.notes[0]
    (tmp_path / "a.parquet").write_bytes(table_of([PICTURES, PICTURES, [0, 1] * 3], ["left", "right", "label"]))
    with pytest.raises(InputError, match="left, right of bytes"):
        load(tmp_path)
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    paths = pa.array([{"bytes": None, "path": "a/1.png"}] * 6, kind)
    (tmp_path / "a.parquet").write_bytes(table_of([paths, [0, 1] * 3], ["image", "label"]))
    with pytest.raises(InputError, match=r"the paths of pictures, as a/1\.png"):
        load(tmp_path)


def test_labels_that_differ_by_space_are_one_class(tmp_path, same):
    table = frame(same.train)
    table["label"] = [f"digit {label}{' ' * (at % 2)}" for at, label in enumerate(table["label"])]
    table.to_csv(tmp_path / "a.csv", index=False)
    assert len(load(tmp_path).classes) == 10


def test_a_label_far_from_the_others_is_named(tmp_path, same):
    np.savez(tmp_path / "a.npz", x=same.train.images, y=np.append(same.train.targets[1:], 200))
    with pytest.raises(InputError, match="labels from 0 to 200, of which only 11 occur"):
        load(tmp_path)


def test_rows_of_pixels_with_an_axis_for_a_channel(tmp_path, same):
    for name, axis in (("a", 1), ("b", 2)):
        flat = np.expand_dims(same.train.images.reshape(len(same.train), -1), axis)
        np.savez(tmp_path / f"{name}.npz", x=flat, y=same.train.targets)
        assert load(tmp_path / f"{name}.npz").train.images.shape[1:] == same.train.images.shape[1:]


def test_a_manifest_of_another_program_names_no_classes(tmp_path, bars, same):
    shutil.copytree(bars, tmp_path / "bars")
    (tmp_path / "bars" / "manifest.json").write_text('{"files": []}')
    assert load(tmp_path / "bars").classes == same.classes


def test_endings_that_are_not_known_are_named(tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "1.gif").write_bytes(b"GIF89a")
    with pytest.raises(InputError, match=r"It has files of \.gif"):
        load(tmp_path)


def test_training_folders_alone_and_links_are_read(tmp_path, same):
    write_class_folders(tmp_path / "elsewhere", same)
    (tmp_path / "set" / "Train").mkdir(parents=True)
    for name in same.classes:
        (tmp_path / "set" / "Train" / name).symlink_to(tmp_path / "elsewhere" / "train" / name)
    found = load(tmp_path / "set")
    assert found.classes == same.classes and len(found.train) + len(found.test) == len(same.train)


def test_a_test_folder_alone_one_class_and_a_class_without_pictures_are_said(tmp_path, same):
    write_class_folders(tmp_path, same)
    (tmp_path / "train" / "empty").mkdir()
    assert "1 folder without pictures make no class" in load(tmp_path).notes[0].replace("makes", "make")
    shutil.rmtree(tmp_path / "train")
    with pytest.raises(InputError, match="has a test folder with pictures, but no training folder"):
        load(tmp_path)
    one = tmp_path / "one"
    for writer in ("anna", "ben"):
        shutil.copytree(tmp_path / "test" / "7", one / "7" / writer)
    with pytest.raises(InputError, match="has a single class"):
        load(one)


def test_links_to_pictures_that_are_not_there_are_unreadable_pictures(tmp_path, same):
    write_class_folders(tmp_path, same)
    (tmp_path / "train" / "3" / "annexed.png").symlink_to(".git/annex/objects/x")
    note = load(tmp_path).notes[0]
    assert "1 of 121 pictures" in note and "annexed.png is a link to .git/annex/objects/x, which is not there" in note


def test_validation_folders_count_to_training(tmp_path, same):
    write_class_folders(tmp_path, same)
    for name in "0123456789":
        file = tmp_path / "train" / name / f"img_{name}.png"
        target = tmp_path / "val" / name / file.name
        target.parent.mkdir(parents=True)
        file.rename(target)
    assert load(tmp_path).sha256 == same.sha256


def test_a_few_unreadable_pictures_are_named_and_many_stop(tmp_path, same):
    write_class_folders(tmp_path, same)
    (tmp_path / "train" / "7" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    found = load(tmp_path)
    assert found.sha256 == same.sha256
    assert "1 of 121 pictures" in found.notes[0] and "broken.png" in found.notes[0]
    (tmp_path / "train" / "7" / "pointer.png").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0")
    with pytest.raises(InputError, match=r"2 of 122 pictures .*broken.png.*pointer.png is a Git LFS pointer"):
        load(tmp_path)


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "bmp", "tif"])
@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "RGBA", "I;16"])
def test_pictures_of_every_kind_and_mode_are_grey(tmp_path, ending, mode):
    drawn = np.zeros((40, 30), np.uint8)
    drawn[10:30, 10:20] = 255
    picture = Image.fromarray(drawn)
    if mode == "I;16":
        if ending in ("jpg", "webp", "bmp"):
            pytest.skip("the format has no 16 bits")
        picture = Image.fromarray(drawn.astype(np.uint16) * 16)
    elif mode == "RGBA":
        if ending in ("jpg", "bmp"):
            pytest.skip("the format has no transparency")
        # White strokes on nothing.
        picture = Image.merge("RGBA", [Image.new("L", picture.size, 255)] * 3 + [picture])
    else:
        picture = picture.convert(mode)
    if ending in ("jpg", "webp") and mode in ("P", "1"):
        picture = picture.convert("RGB")
    path = tmp_path / f"picture.{ending}"
    picture.save(path, quality=100) if ending in ("jpg", "webp") else picture.save(path)
    read = grey.read(path, name="picture")
    assert read.dtype == np.uint8 and np.abs(read.astype(int) - drawn).mean() < 3


def test_pictures_of_unequal_sizes_are_fitted_to_a_square(tmp_path):
    for number in range(12):
        digit = np.full((60 + number, 30), 250, np.uint8)
        digit[10:50, 12:18] = 20
        file = tmp_path / str(number % 2) / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(digit).convert("RGB").save(file)
    found = load(tmp_path)
    assert found.train.images.shape[1:] == (28, 28)
    # The ground is the paper's, the digit in the middle.
    assert np.median(found.train.images[:, :, :4]) == 250 and found.train.images[:, 8:20, 13:15].mean() < 80
    assert any("frame=true" in note for note in found.notes), "predict would turn them to light on dark"
    assert load(tmp_path, side=32).train.images.shape[1:] == (32, 32)


def test_arrays_are_fitted_as_well(tmp_path, same):
    write_keras(tmp_path, same)
    assert load(tmp_path, side=28).sha256 == same.sha256
    assert load(tmp_path, side=20).test.images.shape == (20, 20, 20)


def test_emnist_letters_are_26_classes_with_their_names(tmp_path, same):
    random = np.random.default_rng(0)
    for part, count in (("train", 78), ("test", 26)):
        images = random.integers(0, 256, (count, 28, 28))
        (tmp_path / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (tmp_path / f"emnist-letters-{part}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(count) % 26 + 1))
    found = load(tmp_path)
    assert found.classes == tuple(map(str, range(1, 27)))
    assert found.train.targets.tolist() == (np.arange(78) % 26).tolist()
    mapping = "".join(f"{number} {ord(name.upper())} {ord(name)}\n" for number, name in enumerate(LETTERS, start=1))
    (tmp_path / "emnist-letters-mapping.txt").write_text(mapping)
    named = load(tmp_path)
    assert named.classes == tuple(LETTERS.upper()) and named.sha256 == found.sha256


@pytest.mark.parametrize(
    ("labels", "classes"),
    [([1, 2, 3], "123"), ([1, 7], "01234567"), ([0, 3], "0123"), (["10.0", "8", "9"], ("8", "9", "10")), ("ba", "ab")],
)
def test_labels_make_classes(labels, classes):
    part = Part(np.zeros((len(labels), 2, 2), np.uint8), np.array(list(labels)), "here")
    assert tuple(folders.number_labels(part, None).values()) == tuple(classes)


def test_names_are_in_natural_order():
    names = ["10", "9", "b", "A10", "a2", "1.5"]
    assert sorted(names, key=natural) == ["1.5", "9", "10", "a2", "A10", "b"]


# --- What cannot be read is said in a sentence -----------------------------------------------------------------------


def broken_table(folder: Path, same: Dataset, change) -> None:
    table = change(frame(same.train))
    (folder / "train.csv").write_text(table if isinstance(table, str) else table.to_csv(index=False))


def without_header(table: pd.DataFrame) -> str:
    return table.assign(label=np.arange(len(table)) % 7 * 3).to_csv(index=False, header=False)


BROKEN = {
    "no label": (lambda table: table.drop(columns="label"), "train.csv has no column of labels: name it label"),
    "a pixel too few": (lambda table: table.drop(columns="pixel5"), "rows of 783 pixels"),
    "an empty cell": (lambda table: table.astype(float).where(table != table.iloc[3, 400]), "lacks some of its values"),
    "an empty label": (lambda table: table.assign(label=[None, *table["label"][1:]]), "images without a label"),
    "words": (lambda table: table.assign(pixel7="dark"), "cannot be read as a table .*dark"),
    "shares": (lambda table: (table / 255).assign(label=table["label"]), "multiply them by 255"),
    "ragged": (lambda table: table.to_csv(index=False) + "1,2,3\n", "cannot be read as a table"),
    "either column": (without_header, "has no header, and neither of its first and last column"),
    "a long label": (lambda table: table.assign(label="x" * 200), "more than 100 letters"),
    "identities": (lambda table: table.assign(label=np.arange(120) * 1000), "labels of 119,001 classes"),
    "one class": (lambda table: table.assign(label=3), "has a single class"),
    "rare class": (lambda table: table.assign(label=[7, 7, *[1] * 118]), r"too few images of a class \(7 2\)"),
    "nothing but names": (lambda table: table[:0], "has no images"),
    "no table": (lambda table: "a,b\n1,2\n", "no table of images"),
    "nothing": (lambda table: "", "is empty"),
    "a pointer": (lambda table: "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer"),
    "a page": (lambda table: "<!DOCTYPE html><html>not found</html>", "is a web page"),
    "one line": (lambda table: "0," * 2_000_000, "first line is longer"),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_table_that_cannot_be_read(tmp_path, same, fault):
    change, says = BROKEN[fault]
    broken_table(tmp_path, same, change)
    with pytest.raises(InputError, match=says) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_labels_may_be_words(tmp_path, same):
    words = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])
    for part, images in parts(same):
        frame(images).assign(label=words[images.targets]).to_csv(tmp_path / f"{part}.csv", index=False)
    found = load(tmp_path)
    assert found.classes == tuple(sorted(words))
    assert [found.classes[target] for target in found.test.targets] == words[same.test.targets].tolist()


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"a": np.zeros((3, 28, 28)), "b": np.arange(3)}, "names do not tell images and labels"),
        ({"x_train": np.zeros((3, 28, 28), np.uint8), "y_train": np.arange(4)}, "has 3 images, but 4 labels"),
        ({"x_train": np.full((3, 28, 28), 0.5), "y_train": np.arange(3)}, "multiply them by 255"),
        ({"x_train": np.zeros((3, 28, 27, 2), np.uint8), "y_train": np.arange(3)}, "has the axes 3 x 28 x 27 x 2"),
        ({"x_train": np.zeros((3, 28, 28), object), "y_train": np.arange(3)}, "has the shape"),
        ({"x_train": np.zeros((3, 28, 28), np.uint8), "y_train": np.ones((3, 4))}, "several or no labels"),
        ({"x_train": np.zeros((3, 9000, 2), np.uint8), "y_train": np.arange(3)}, "at most 4,096 a side"),
    ],
)
def test_arrays_that_cannot_be_read(tmp_path, arrays, says):
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(InputError, match=says) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (gzip.compress(gzip.compress(idx_bytes(np.zeros((2, 3, 4))))), "is compressed twice: unpack it once"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "is a Git LFS pointer"),
    ],
    ids=["gzip twice", "pointer"],
)
def test_idx_files_that_are_something_else(tmp_path, same, content, says):
    write_idx(tmp_path, same, *OFFICIAL)
    (tmp_path / OFFICIAL[0].format("train")).write_bytes(content)
    with pytest.raises(InputError, match=says):
        load(tmp_path)


def test_a_folder_without_a_known_form_says_which_there_are(tmp_path):
    (tmp_path / "digit.png").write_bytes(png(np.zeros((28, 28), np.uint8)))
    with pytest.raises(InputError, match=r"train/7/1.png or 7/1.png, IDX files, .csv or .parquet tables, .npz or .npy"):
        load(tmp_path)


def test_a_test_class_without_training_is_refused(tmp_path, same):
    write_class_folders(tmp_path, same)
    (tmp_path / "test" / "3").rename(tmp_path / "test" / "three")
    with pytest.raises(InputError, match="test pictures of three, a class without training pictures"):
        load(tmp_path)


def test_two_tables_of_two_data_sets_are_refused(tmp_path, same):
    for name in ("mnist_train", "fashion_train"):
        frame(same.train).to_csv(tmp_path / f"{name}.csv", index=False)
    with pytest.raises(InputError, match="holds several data sets"):
        load(tmp_path)


# --- Any bytes are an answer or the project's own error, and memory follows what is there ----------------------------

PIXEL_NAMES = ",".join(f"p{number}" for number in range(36))
FIELDS = st.one_of(st.integers(-2, 300).map(str), st.sampled_from(["", "x", '"', "1e999", "nan", "0.5", "\x00", "é"]))
ROWS = st.lists(st.lists(FIELDS, min_size=35, max_size=39).map(",".join), max_size=12).map("\n".join)
CSV = st.one_of(
    st.binary(max_size=300),
    ROWS.map(str.encode),
    ROWS.map(lambda rows: f"label,{PIXEL_NAMES}\n{rows}".encode()),
    ROWS.map(lambda rows: gzip.compress(f"{PIXEL_NAMES},class\n{rows}".encode())),
)


def npz(arrays: dict) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy_header(shape: str, kind: str, content: bytes) -> bytes:
    header = f"{{'descr': {kind!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + content


SHAPES = st.sampled_from(
    ["(9, 4, 4)", "(9,)", "(9, 16)", "(-1, 4, 4)", "(1000000000000, 28, 28)", "(9, 1000000000, 1)", "()", "x"]
)
KINDS = st.sampled_from(["|u1", "<f8", "|b1", "|O", "<U3", "<M8[s]", "|V0", ">i4", "z"])
NPY = st.builds(npy_header, SHAPES, KINDS, st.binary(max_size=200))
PNG = st.one_of(
    st.binary(max_size=200),
    st.builds(
        lambda cut, more: png(np.eye(9, dtype=np.uint8))[:cut] + more, st.integers(0, 90), st.binary(max_size=90)
    ),
)


def load_within_bounds(path: Path) -> None:
    tracemalloc.start()
    try:
        found = load(path)
        assert found.train.images.dtype == np.uint8 and found.train.images.ndim == 3
        assert len(found.train.images) == len(found.train.targets) and found.train.targets.max() < len(found.classes)
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 40_000_000


hostile = settings(max_examples=100)


@hostile
@given(content=CSV, name=st.sampled_from(["train.csv", "set.csv.gz", "a.tsv"]))
@example(content=gzip.compress(f"label,{PIXEL_NAMES}\n".encode() + b'"' * 10**8), name="train.csv.gz")
@example(content=gzip.compress(b"1," * 10**8), name="train.csv.gz")
@example(content=b"PAR1" + bytes(100) + b"PAR1", name="train.parquet")
def test_any_bytes_as_a_table(tmp_path, content, name):
    path = tmp_path / name
    path.write_bytes(content)
    load_within_bounds(path)


@hostile
@given(images=st.one_of(NPY, st.binary(max_size=200)), labels=st.one_of(NPY, st.binary(max_size=50)))
@example(images=npy_header("(-1, 4, 4)", "|u1", b""), labels=npy_header("(9, 1000000000, 1)", "|u1", b""))
@example(images=npy_header("(10000000000, 28, 28)", "|u1", b""), labels=npy_header("(9,)", "|u1", bytes(9)))
def test_any_bytes_as_arrays(tmp_path, images, labels):
    (tmp_path / "x_train.npy").write_bytes(images)
    (tmp_path / "y_train.npy").write_bytes(labels)
    load_within_bounds(tmp_path)


@hostile
@given(cut=st.integers(0, 700), more=st.binary(max_size=60))
@example(cut=463, more=b"\n")
def test_any_bytes_as_an_archive(tmp_path, cut, more):
    whole = npz({"x_train": np.arange(9 * 16, dtype=np.uint8).reshape(9, 4, 4), "y_train": np.arange(9) % 3})
    (tmp_path / "set.npz").write_bytes(whole[:cut] + more + whole[cut + len(more) :])
    load_within_bounds(tmp_path)


@hostile
@given(content=PNG)
@example(content=b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xff\xff\0\0\xff\xff\x08\0\0\0\0" + bytes(60))
def test_any_bytes_as_pictures(tmp_path, content):
    for number in range(8):
        file = tmp_path / str(number % 2) / f"{number}.png"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content)
    load_within_bounds(tmp_path)


def test_an_absurd_size_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "x_train.npy").write_bytes(npy_header("(1000000000, 512, 512)", "|u1", b""))
    (tmp_path / "y_train.npy").write_bytes(npy_header("(1000000000,)", "|u1", b""))
    with pytest.raises(InputError, match=r"1,000,000,000 images of 512 x 512 px, 262,144.0 GB: twice that is needed"):
        load(tmp_path)


# --- Inputs that nobody thinks of ------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [True, False])
def test_a_table_whose_columns_are_numbered_has_no_image_of_its_header(tmp_path, same, first):
    values = frame(same.train, first=first).to_numpy()
    pd.DataFrame(values).to_csv(tmp_path / "train.csv", index=False)
    pd.DataFrame(frame(same.test, first=first).to_numpy()).to_csv(tmp_path / "test.csv", index=False)
    for loaded, known in zip(parts(load(tmp_path)), parts(same), strict=True):
        assert loaded[1].sha256 == known[1].sha256


def test_blank_lines_above_the_header_and_labels_with_and_without_a_fraction(tmp_path, same):
    for part, images in parts(same):
        text = frame(images).astype({"label": float if part == "test" else int}).to_csv(index=False)
        (tmp_path / f"{part}.csv").write_text("\n\n" + text.replace("\n", "\n\n"))
    for loaded, known in zip(parts(load(tmp_path)), parts(same), strict=True):
        assert loaded[1].sha256 == known[1].sha256


def table_of(columns: list, names: list[str]) -> bytes:
    file = io.BytesIO()
    parquet.write_table(pa.Table.from_arrays([pa.array(column) for column in columns], names), file)
    return file.getvalue()


PICTURES = [png(np.zeros((8, 8), np.uint8))] * 6


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([[0]] * 6, "has labels of the type list"),
        ([{"a": 0}] * 6, "has labels of the type struct"),
        ([b"\xff"] * 6, "cannot be read as a table"),
        ([0.0, 1.0, float("nan")] * 2, "images without a label"),
        (["a", "\n"] * 3, "images without a label"),
        (["a", "b\x07"] * 3, r"a class named 'b\\x07'"),
        (np.array([2**63 + 5, 0] * 3, np.uint64), "labels too large for any class, as 9,223,372,036,854,775,813"),
        ([2**62, 0] * 3, "at most 1,000"),
    ],
)
def test_labels_of_odd_kinds_are_refused_in_words(tmp_path, labels, says):
    (tmp_path / "a.parquet").write_bytes(table_of([PICTURES, labels], ["image", "label"]))
    with pytest.raises(InputError, match=says):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.parquet", table_of([PICTURES, [0] * 6, [0] * 6], ["image", "label", "label"]), "several columns of the na"),
        ("a.parquet", table_of([pa.array([], pa.binary()), []], ["image", "label"]), "has no images"),
        ("a.csv", "label,pixel0\n".encode("utf-16"), "UTF-16: save it as UTF-8"),
        (
            "a.csv",
            b"PK\x03\x04\x14\0\x06\0[Content_Types].xml",
            "is an archive, as .* a sheet as CSV",
        ),
        ("a.csv", b"%PDF-1.7", "is a PDF document"),
        ("a.parquet", table_of([[[0] * 64] * 6, [0, 1] * 3], ["image", "label"]), "lists of pixels are not read"),
        ("a.csv.gz", gzip.compress(bytes(range(256)) * 99)[:-60], "cannot be read as a table"),
    ],
)
def test_odd_tables_are_refused_in_words(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=says):
        load(tmp_path)


@pytest.mark.parametrize("odd", [np.inf, 1e30, np.nan, np.uint64(2**63)])
def test_labels_that_no_whole_number_holds_are_refused(tmp_path, odd):
    labels = np.array([0, 1, odd] * 2, np.uint64 if isinstance(odd, np.uint64) else float)
    np.savez(tmp_path / "a.npz", x=np.zeros((6, 8, 8), np.uint8), y=labels)
    with pytest.raises(InputError, match="no whole numbers"):
        load(tmp_path / "a.npz")


def test_names_that_are_no_text_are_shown_as_what_they_are(tmp_path, same):
    write_class_folders(tmp_path / "set", same)
    stray = tmp_path / "set" / os.fsdecode(b"caf\xe9.png")
    stray.write_bytes(png(same.train.images[0]))
    within = tmp_path / "set" / "train" / "3" / os.fsdecode(b"caf\xe9.txt")
    within.write_text("written on a Monday")
    found = load(tmp_path / "set")
    assert found.sha256 == same.sha256
    assert "caf\\xe9.png" in found.notes[0] and "caf\\xe9.txt" in found.notes[1]
    stray.with_suffix("").mkdir()
    with pytest.raises(InputError, match=r"caf\\xe9 has a name that is not UTF-8, which no run can record: rename it"):
        load(stray.with_suffix(""))


def test_links_to_folders_above_and_pipes_are_no_input(tmp_path, same):
    write_class_folders(tmp_path, same)
    (tmp_path / "train" / same.classes[0] / "loop").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "train" / same.classes[0] / "pipe.png")
    assert load(tmp_path).train.sha256 == same.train.sha256
