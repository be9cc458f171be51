"""Pictures and files of many kinds through registered models: the same answers, bounded memory, clear refusals."""

import csv
import gzip
import io
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from scipy import ndimage
from support import MNIST, PROJECT, idx_bytes, needs_mnist

from pipeline.data import folders, sources
from pipeline.data.images import ImageSet
from pipeline.errors import InputError, Refusal
from pipeline.inference import digitize, image_files
from pipeline.registry import loading

READERS = {".csv": pd.read_csv, ".jsonl": lambda path: pd.read_json(path, lines=True), ".parquet": pd.read_parquet}


def photograph(
    image: np.ndarray, *, seed: int = 0, light: bool = True, dim: float = 1, place: tuple[int, int] = (60, 150)
) -> np.ndarray:
    """A digit of MNIST's format as a pen would write it, large, somewhere on unevenly lit, grainy paper."""
    random = np.random.default_rng(seed)
    large = np.asarray(Image.fromarray(image).resize((280, 280), Image.Resampling.BICUBIC)) > 128
    ink = np.zeros((420, 560))
    ink[place[0] : place[0] + 280, place[1] : place[1] + 280] = ndimage.gaussian_filter(large.astype(float), 1)
    paper = np.linspace(0.65, 0.95, 560) * (1 - 0.75 * ink) + random.normal(0, 0.02, ink.shape)
    return (255 * dim * (paper if light else 1 - paper)).clip(0, 255).astype(np.uint8)


def encoded(image: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, form)
    return file.getvalue()


@pytest.fixture(scope="module")
def digits() -> ImageSet:
    return sources.digits(PROJECT).test


@pytest.mark.parametrize(("light", "dim"), [(True, 1), (False, 1), (True, 0.55)])
def test_a_photograph_becomes_an_image_in_mnists_format(digits, light, dim):
    for position in range(20):
        image = digits.images[position]
        picture = photograph(image, seed=position, light=light, dim=dim)
        framed = digitize.normalize_digit(digitize.segment_ink(picture, name="it"), (28, 28)).image
        assert framed.max() == 255 and np.median(framed) == 0
        rows, columns = (np.flatnonzero((framed > 60).any(axis)) for axis in (1, 0))
        assert 17 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 22
        assert np.allclose(ndimage.center_of_mass(framed), 14, atol=1)
        # The same digit in the same frame, but for the smoothness that a pen does not have.
        centred = ndimage.shift(image.astype(float), np.array([14, 14]) - ndimage.center_of_mass(image))
        assert np.corrcoef(framed.ravel(), centred.ravel())[0, 1] > 0.8


@needs_mnist
def test_photographs_of_mnists_own_digits_come_back():
    images = folders.read_folder(MNIST, name="mnist").test.images[:100]
    framed = [
        digitize.normalize_digit(digitize.segment_ink(photograph(image), name="it"), (28, 28)).image for image in images
    ]
    alike = [np.corrcoef(first.ravel(), second.ravel())[0, 1] for first, second in zip(images, framed, strict=True)]
    assert np.median(alike) > 0.9 and min(alike) > 0.6


def test_dirt_and_the_table_beside_the_paper_are_no_ink(digits):
    picture = photograph(digits.images[0])
    clean = digitize.normalize_digit(digitize.segment_ink(picture, name="it"), (28, 28)).image
    picture[:, :20] = 30
    picture[400:404, 300:304] = 30
    assert (
        np.abs(
            digitize.normalize_digit(digitize.segment_ink(picture, name="it"), (28, 28)).image.astype(int) - clean
        ).mean()
        < 5
    )


def test_boxes_come_back_to_where_the_digit_is(digits):
    framed = digitize.normalize_digit(
        digitize.segment_ink(photograph(digits.images[0], place=(100, 20)), name="it"), (None, None)
    )
    rows, columns = (np.flatnonzero((framed.image > 60).any(axis)) for axis in (1, 0))
    box = framed.to_picture(np.array([[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]], float))[0]
    ink = np.argwhere(np.asarray(Image.fromarray(digits.images[0]).resize((280, 280), Image.Resampling.BICUBIC)) > 128)
    (top, left), (bottom, right) = np.add(ink.min(0), (100, 20)), np.add(ink.max(0), (101, 21))
    assert np.allclose(box, [left, top, right, bottom], atol=14)


def test_a_large_jpeg_is_read_in_its_own_pixels(digits):
    large = np.asarray(Image.fromarray(photograph(digits.images[0])).resize((2800, 2100)))
    boxes = []
    for form in ("PNG", "JPEG"):
        framed = digitize.normalize_digit(
            digitize.segment_ink(digitize.read(encoded(large, form), name="it"), name="it"), (None, None)
        )
        boxes.append(framed.to_picture(np.array([[0, 0, *framed.image.shape[::-1]]], float))[0])
    assert np.allclose(*boxes, atol=20) and boxes[0][3] - boxes[0][1] > 1000


def test_a_number_with_a_point_is_unsure_and_says_what_it_leaves_out_whatever_the_files_name(champions, command):
    paper = Image.new("L", (300, 200), 255)
    draw = ImageDraw.Draw(paper)
    for left in (40, 180):
        draw.line([(left, 50), (left + 60, 50), (left + 20, 150)], fill=0, width=9, joint="curve")
    paper.save(os.fsdecode(b"seven\xe9.png"))
    draw.ellipse((130, 140, 144, 154), fill=0)
    paper.save(os.fsdecode(b"point\xe9.png"))
    model = ("--model-uri", "models:/bars-cnn@champion")
    for output in ("a.csv", "a.jsonl", "a.parquet"):
        _, err = command("predict", *model, "--input", ".", "--output", output)
        assert err.count("left out") == 1
        assert "point\\xe9.png: 1 mark is taken for no digit and left out." in err
        found = READERS[f".{output.split('.')[1]}"](output)
        assert found["file"].str.fullmatch(r"(point|seven)\\xe9\.png").all()
        assert found["unsure"][found["file"].str.startswith("point")].all()


def test_a_dim_picture_of_the_right_size_is_inverted():
    dim = np.full((28, 28), 100, np.uint8)
    dim[6:22, 13:15] = 10
    assert digitize.is_light(dim) and not digitize.is_framed(dim, (28, 28))
    assert digitize.is_framed(100 - dim, (28, 28))


def test_what_is_no_picture_is_refused():
    for content, why in {
        b"": "it is empty",
        b"hello": "it is no PNG, JPEG, WebP, BMP or TIFF picture that can be read",
        b"\x89PNG\r\n\x1a\nnothing": "it is a picture that is damaged or cut off",
        encoded(np.zeros((9, 9), np.uint8), "GIF"): "it is a GIF",
    }.items():
        with pytest.raises(InputError, match=why):
            digitize.read(content, name="it")
    with pytest.raises(InputError, match="shows no ink"):
        digitize.segment_ink(np.full((200, 200), 250, np.uint8), name="it")
    bomb = encoded(np.zeros((9000, 9000), np.uint8), "PNG")
    with pytest.raises(InputError, match=r"9000 x 9000 px: at most"):
        digitize.read(bomb, name="it")


def test_transparent_is_white_and_sixteen_bits_are_read():
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 1), (0, 0, 0, 255))
    file = io.BytesIO()
    clear.save(file, "PNG")
    assert digitize.read(file.getvalue(), name="it").tolist()[1] == [255, 0, 255, 255]
    deep = np.array([[0, 65535], [257, 514]], np.uint16)
    assert digitize.read(encoded(deep, "PNG"), name="it").tolist() == [[0, 255], [1, 2]]


def test_every_kind_of_file_gives_the_same_answers(champions, command, bars):
    images = folders.read_folder(bars, name="bars").test.images
    expected = loading.load("models:/bars-mlp/1").answer(images).argmax(1)
    pixels = pd.DataFrame(images.reshape(len(images), -1)).add_prefix("pixel")
    files = {
        "plain-idx3-ubyte": idx_bytes(images),
        "small.gz": gzip.compress(idx_bytes(images)),
        "numpy.csv": "\n".join(",".join(f"{value:.3e}" for value in row) for row in pixels.to_numpy()).encode(),
        "excel.csv": b"\xef\xbb\xbf" + pixels.to_csv(index=False, header=False).encode(),
        "quoted.csv": pixels.astype(str).to_csv(index=False, header=False, quoting=csv.QUOTE_ALL).encode(),
        "plain.csv": pixels.to_csv(index=False, header=False).encode(),
        "kaggle.csv": pd.concat([pd.Series(expected, name="label"), pixels], axis=1).to_csv(index=False).encode(),
    }
    for name, content in files.items():
        (champions / name).write_bytes(content)
    np.save(champions / "array.npy", images)
    for name in [*files, "array.npy"]:
        for ending, read in READERS.items():
            command("predict", "--model-uri", "models:/bars-mlp/1", "--input", name, "--output", f"out{ending}")
            table = read(champions / f"out{ending}")
            assert table["label"].astype(int).tolist() == expected.tolist(), (name, ending)
            assert table["image"].tolist() == list(range(len(images)))
            assert (table["probability"] >= table["probability_2"]).all() and {"file", "label_3"} <= set(table.columns)


def test_a_row_says_where_a_digit_is_and_whether_it_is_sure(champions, command, bars):
    images = folders.read_folder(bars, name="bars").test.images
    np.save(champions / "flat.npy", images.reshape(len(images), -1))
    command("predict", "--model-uri", "models:/bars-cnn/1", "--input", "flat.npy", "--output", "out.csv")
    table = pd.read_csv(champions / "out.csv", dtype={"label": str, "text": str})
    assert table["text"].tolist() == table["label"].tolist()
    assert (table[["x1", "y1", "x2", "y2"]] == [0, 0, 28, 28]).all(axis=None)
    sure_from = loading.load("models:/bars-cnn/1").calibration.sure_from
    assert 0 < sure_from < 1 and (table["unsure"] == (table["probability"] < sure_from)).mean() > 0.9
    command(
        "predict", "--model-uri", "models:/bars-cnn/1", "--input", "flat.npy", "--output", "k.csv", "--as", "kaggle"
    )
    kaggle = pd.read_csv(champions / "k.csv", dtype=str)
    assert kaggle.columns.tolist() == ["ImageId", "Label"]
    assert kaggle["Label"].tolist() == table["label"].tolist() and kaggle["ImageId"].iloc[0] == "1"


def test_an_unreadable_file_among_many_is_reported_and_skipped(champions, command, digits):
    folder = champions / "pictures" / "inner"
    folder.mkdir(parents=True)
    for position in range(3):
        (folder / f"{position}.jpg").write_bytes(encoded(photograph(digits.images[position]), "JPEG"))
    (folder / "broken.png").write_bytes(b"\x89PNG")
    Image.fromarray(np.repeat([0, 255], 200)[None].repeat(400, 0).astype(np.uint8)).save(folder / "halves.png")
    out, err = command(
        "predict", "--model-uri", "models:/bars-mlp/1", "--input", "pictures", "--output", "out.csv", code=1
    )
    assert "answered 3 images" in out and "Skipped: pictures/inner/broken.png is a picture that is damaged" in err
    assert "Skipped: pictures/inner/halves.png shows no ink" in err
    assert "Error: 2 files or images could not be read and were skipped." in err
    assert len(pd.read_csv(champions / "out.csv")) == 3


def test_arrays_that_are_dark_on_light_are_said_to_be_answered_as_they_are(champions, command, bars):
    images = folders.read_folder(bars, name="bars").test.images
    for name, array, hints in (("dark.npy", images, 0), ("light.npy", np.repeat(255 - images, 60, 0), 1)):
        np.save(champions / name, array)
        _, err = command("predict", "--model-uri", "models:/bars-mlp/1", "--input", name, "--output", "out.csv")
        assert err.count(f"{name} has images that are dark on light, and they are answered as they are") == hints


def test_a_blank_image_among_many_is_reported_and_skipped(champions, command):
    images = np.zeros((3, 20, 20), np.uint8)
    images[::2, 4:16, 9:11] = 255
    np.save(champions / "images.npy", images)
    out, err = command("predict", "--model-uri", "models:/bars-mlp/1", "--input", "images.npy", code=1)
    assert re.search(
        r"^images.npy, image 2: \d \([\d.]+%\), \d \([\d.]+%\), \d \([\d.]+%\)(; unsure)?$", out, re.MULTILINE
    )
    assert "answered 2 images" in out and "Skipped: images.npy, image 1, shows no ink" in err
    assert pd.read_csv(champions / "predictions.csv")["image"].tolist() == [0, 2]


@pytest.mark.parametrize("ending", READERS)
def test_a_detector_gives_boxes_also_where_there_are_none_at_first(champions, command, bars, ending):
    images = np.concatenate([np.zeros((300, 28, 28), np.uint8), folders.read_folder(bars, name="bars").test.images])
    np.save(champions / "images.npy", images)
    output = f"boxes{ending}"
    command("predict", "--model-uri", "models:/bars-faster_rcnn/1", "--input", "images.npy", "--output", output)
    columns = ["file", "image", "x1", "y1", "x2", "y2", "label", "probability", "unsure", "text"]
    table = READERS[ending](champions / output)
    assert ending == ".jsonl" or table.columns.tolist() == columns
    assert ending != ".parquet" or table["label"].dtype == object or str(table["label"].dtype) == "str"


def test_the_input_is_not_replaced_by_the_answers(champions, mistake):
    (champions / "x.csv").write_text("1,2,3,4\n")
    arguments = ["--model-uri", "models:/bars-mlp/1", "--input", "x.csv", "--output", "x.csv"]
    assert "x.csv is the input" in mistake("predict", *arguments, code=2)
    assert (champions / "x.csv").read_text() == "1,2,3,4\n"


def saved(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    np.savez(file, np.zeros(3))
    return file.getvalue()


BROKEN = {
    name: (content, says)
    for name, content, says in [
        ("half.idx", idx_bytes(np.zeros((3, 28, 28)))[:-1], "is truncated: its header promises 3 images"),
        ("more.idx", idx_bytes(np.zeros((3, 28, 28))) + b"0", "is longer than its header says"),
        ("half.gz", gzip.compress(idx_bytes(np.zeros((3, 28, 28))))[:-9], "cannot be read"),
        ("labels.idx", idx_bytes(np.zeros(3)), "holds labels, no images"),
        ("notes.txt", b"hello", "is no picture"),
        ("words.csv", b"a,b\nc,d\n", "is no table of whole numbers"),
        ("odd.csv", b"1,2,3\n", "rows of 3 values"),
        ("high.csv", b"1,2,3,256\n", "pixels are whole, 0 to 255"),
        ("bad.npy", b"\x93NUMPY", "is no .npy array of numbers"),
        ("zip.npy", archive(), "is an archive"),
        ("text.npy", saved(np.array([["a"]])), "pixels are whole, 0 to 255"),
        ("shares.npy", saved(np.full((1, 28, 28), 0.5)), "multiply them by 255 and round"),
        ("point.npy", saved(np.array(3)), "is no .npy array of images"),
        ("fractions.csv", b"0.5,1,2,3\n", "pixels are whole, 0 to 255"),
        ("endless.csv", b"1,2,3," + b"9" * 400 + b"\n", "endless.csv"),
        ("bomb.idx", bytes([0, 0, 8, 3]) + (1024).to_bytes(4, "big") + 2 * (4096).to_bytes(4, "big"), "is truncated"),
    ]
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_file_is_one_sentence_and_writes_nothing(champions, mistake, name):
    content, says = BROKEN[name]
    (champions / name).write_bytes(content)
    arguments = ["--model-uri", "models:/bars-mlp/1", "--input", name, "--output", "out.csv"]
    assert says in mistake("predict", *arguments, code=2)
    assert not (champions / "out.csv").exists()


def test_objects_are_not_unpickled(champions, mistake):
    class Trap:
        def __reduce__(self):
            return open, ("trapped", "w")

    np.save(champions / "trap.npy", np.array([Trap()], object), allow_pickle=True)
    arguments = ["--model-uri", "models:/bars-mlp/1", "--input", "trap.npy", "--output", "out.csv"]
    assert "is no .npy array of numbers" in mistake("predict", *arguments, code=2)
    assert not (champions / "trapped").exists()


def test_memory_does_not_grow_with_the_number_of_images(champions):
    for count in (2_000, 60_000):
        (champions / f"{count}.idx").write_bytes(idx_bytes(np.zeros((count, 28, 28), np.uint8)))
    peaks = []
    for count in (2_000, 60_000):
        script = (
            "import resource; from pipeline.cli.commands import main; main(); "
            "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        arguments = ["predict", "--model-uri", "models:/bars-mlp/1", "--input", f"{count}.idx"]
        run = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True, check=True)
        assert f"answered {count:,} images" in run.stdout
        peaks.append(int(re.search(r"peak (\d+)", run.stdout)[1]))
    # The images alone are 45 MB more.
    assert peaks[1] < peaks[0] + 25_000


def test_only_trusted_registries_run_their_code(champions, mistake):
    Image.new("L", (28, 28)).save(champions / "x.png")
    arguments = ["predict", "--input", "x.png", "--output", "o.csv"]
    copy = champions / "copy"
    loading.download("models:/bars-mlp/1", copy)
    (code,) = copy.rglob("serve.py")
    code.write_text("open('executed', 'w')\n" + code.read_text())
    model = str(code.parent)
    assert "is not trusted" in mistake(*arguments, "--model-uri", model, code=3)
    assert "is not trusted" in mistake(*arguments, "--model-uri", "models:/bars-mlp/1", "--trust", "elsewhere", code=3)
    assert not (champions / "executed").exists()
    assert loading.load(model, trusted=[str(copy)]).label == model and (champions / "executed").exists()
    for elsewhere in (f"{copy}-of-somebody-else", "file:/tmp/evil", "file:///trusted/../evil", "https://a/b/../evil"):
        with pytest.raises(Refusal):
            loading.check_trust(elsewhere, [str(copy), "/trusted", "https://a/b"])
    with pytest.raises(Refusal):
        loading.check_trust("file:/tmp/evil", ["."])
    loading.check_trust(f"file://{copy}/model", [str(copy)])


def test_a_pickled_model_is_not_unpickled(champions):
    copy = champions / "copy"
    loading.download("models:/bars-mlp/1", copy)
    (description,) = copy.rglob("MLmodel")
    description.write_text(
        re.sub(r".*model_code_path.*\n", "    python_model: python_model.pkl\n", description.read_text())
    )
    with pytest.raises(InputError, match="was not made by this project"):
        loading.load(str(description.parent), trusted=[str(copy)])


def test_files_of_images_are_read_in_blocks(tmp_path):
    images = np.arange(2500 * 16, dtype=np.int64).reshape(2500, 4, 4) % 251
    file = tmp_path / "a.idx"
    file.write_bytes(idx_bytes(images))
    found = list(image_files.blocks(file, (28, 28)))
    assert [block.first for block in found] == [0, 1024, 2048]
    assert np.array_equal(np.concatenate([block.images for block in found]), images)
