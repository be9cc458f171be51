"""Images come in whole and right, or not at all with a sentence that names the file."""

import gzip
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support import MNIST, PROJECT, idx_bytes, needs_mnist, write_idx_folder

from pipeline.data import idx, manifest, sources
from pipeline.data.splits import split
from pipeline.errors import InputError

IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
LABELS = np.array([3, 1], dtype=np.uint8)


def test_reads_back_what_was_written(tmp_path):
    path = tmp_path / "file"
    for array in (IMAGES, LABELS):
        for content in (idx_bytes(array), gzip.compress(idx_bytes(array))):
            path.write_bytes(content)
            assert np.array_equal(idx.read(path, array.ndim), array)


headers = st.builds(
    lambda zeros, kind, dimensions, sizes: (
        bytes([0, zeros, kind, dimensions]) + b"".join(size.to_bytes(4, "big") for size in sizes)
    ),
    st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([8, 8, 8, 13]),
    st.sampled_from([1, 3, 3, 4]),
    st.lists(st.one_of(st.integers(0, 5), st.integers(0, 2**32 - 1)), min_size=1, max_size=4),
)
contents = st.one_of(
    st.binary(max_size=200),
    st.builds(bytes.__add__, headers, st.binary(max_size=300)),
    st.builds(lambda content: gzip.compress(content), st.builds(bytes.__add__, headers, st.binary(max_size=300))),
    st.builds(lambda content, cut: gzip.compress(content)[:cut], st.binary(max_size=300), st.integers(0, 60)),
)


@settings(max_examples=400)
@given(content=contents, dimensions=st.sampled_from([1, 3]))
@example(content=b"\0\0\x08\x03" + b"\xff" * 12, dimensions=3)
@example(content=gzip.compress(b"\0\0\x08\x01\x7f\xff\xff\xff"), dimensions=1)
def test_any_bytes_are_an_array_or_our_own_error(tmp_path, content, dimensions):
    path = tmp_path / "file"
    path.write_bytes(content)
    try:
        array = idx.read(path, dimensions)
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert array.dtype == np.uint8 and array.ndim == dimensions


def test_memory_follows_the_file_and_not_its_header(tmp_path):
    path = tmp_path / "file"
    # Half a megabyte of content; the header promises the gigabyte that a compressed file of this size could hold.
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + (10**9).to_bytes(4, "big") + bytes(500_000)) + bytes(10**6))
    tracemalloc.start()
    with pytest.raises(InputError):
        idx.read(path, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 10**6


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>not found</html>", "is a web page"),
        (idx_bytes(IMAGES)[:-1], "is truncated"),
        (idx_bytes(IMAGES)[:9], "is truncated"),
        (gzip.compress(idx_bytes(IMAGES))[:-9], "cannot be read"),
        (idx_bytes(IMAGES) + b"x", "is longer than its header says"),
        (idx_bytes(LABELS), "holds labels, no images"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "is no IDX file of images"),
        (bytes([0, 0, 8, 3]) + b"\xff\xff\xff\xff" * 3, "absurd header"),
        (bytes([0, 0, 8, 3]) + bytes(12), "absurd header"),
        (bytes([0, 0, 8, 3]) + (9 * 10**8).to_bytes(4, "big") + (28).to_bytes(4, "big") * 2, "is truncated"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path, content, says):
    folder = write_idx_folder(tmp_path / "broken")
    broken = folder / "train-images-idx3-ubyte.gz"
    broken.write_bytes(content)
    with pytest.raises(InputError) as error:
        sources.load(str(folder), tmp_path)
    assert says in str(error.value) and str(broken) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (np.arange(119) % 10, "has 119 labels, but train-images-idx3-ubyte.gz has 120 images"),
        (np.zeros(120), "has a single class"),
    ],
)
def test_labels_that_do_not_match(tmp_path, labels, says):
    folder = write_idx_folder(tmp_path / "broken")
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(idx_bytes(labels))
    with pytest.raises(InputError, match=says):
        sources.load(str(folder), tmp_path)


def test_a_test_label_that_training_lacks(tmp_path):
    folder = write_idx_folder(tmp_path / "broken")
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.full(20, 10)))
    with pytest.raises(InputError, match="has the label 10, but there are 10 classes"):
        sources.load(str(folder), tmp_path)


NAMINGS = {
    "official": "{split}-{kind}-idx{n}-ubyte",
    "dotted": "{split}-{kind}.idx{n}-ubyte",
    "prefixed": "letters-{split}-{kind}-idx{n}-ubyte",
    "kaggle": "{split}-{kind}-idx{n}-ubyte/{split}-{kind}-idx{n}-ubyte",
}


@pytest.mark.parametrize("naming", NAMINGS)
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("test_name", ["t10k", "test"])
def test_the_usual_namings(tmp_path, bars, naming, compressed, test_name):
    for source in bars.iterdir():
        split, kind, n = source.name.split("-")[0], source.name.split("-")[1], source.name.split("idx")[1][0]
        name = NAMINGS[naming].format(split=test_name if split == "t10k" else split, kind=kind, n=n)
        target = tmp_path / "set" / (name + (".gz" if compressed else ""))
        target.parent.mkdir(parents=True, exist_ok=True)
        content = source.read_bytes()
        target.write_bytes(content if compressed else gzip.decompress(content))
    assert sources.load(str(tmp_path / "set"), tmp_path).sha256 == sources.load(str(bars), tmp_path).sha256


def test_missing_files_are_named(tmp_path, bars):
    shutil.copytree(bars, tmp_path / "set")
    (tmp_path / "set" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(InputError, match="lacks the IDX files of test-labels"):
        sources.load(str(tmp_path / "set"), tmp_path)


def test_two_data_sets_in_one_folder_are_refused(tmp_path, bars):
    shutil.copytree(bars, tmp_path / "set")
    for path in list((tmp_path / "set").iterdir()):
        shutil.copy(path, path.with_name(f"emnist-digits-{path.name}"))
    with pytest.raises(InputError, match="holds several data sets"):
        sources.load(str(tmp_path / "set"), tmp_path)


def test_data_sets_in_two_folders_of_one_are_not_mixed(tmp_path, bars):
    for name in ("fashion", "mnist"):
        shutil.copytree(bars, tmp_path / "sets" / name)
    with pytest.raises(InputError, match=r"several data sets, .*fashion.* and .*mnist"):
        sources.load(str(tmp_path / "sets"), tmp_path)


def test_an_unknown_name_suggests_the_nearest(tmp_path):
    with pytest.raises(InputError, match="did you mean 'fashion-mnist'"):
        sources.load("fashion_mnist", tmp_path)


def test_a_download_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    import torchvision

    def fails_half_way(root, download, **options):
        raw = Path(root, "KMNIST", "raw")
        raw.mkdir(parents=True)
        (raw / "train-images-idx3-ubyte").write_bytes(b"half")
        raise RuntimeError("Error downloading train-labels-idx1-ubyte.gz:\nTried all mirrors")

    monkeypatch.setattr(
        torchvision.datasets,
        "KMNIST",
        type("KMNIST", (), {"__new__": lambda c, *a, **k: fails_half_way(*a, **k), "classes": []}),
    )
    with pytest.raises(InputError) as error:
        sources.load("kmnist", tmp_path)
    for way_out in ("-P dataset=digits", "-P dataset=FOLDER", "-P weights=none", "-P weights=FILE"):
        assert way_out in str(error.value)
    assert list((tmp_path / "datasets").iterdir()) == []


LOADERS = {"mnist": "MNIST", "fashion-mnist": "FashionMNIST", "kmnist": "KMNIST", "emnist-digits": "EMNIST"}


@pytest.mark.parametrize("name", LOADERS)
def test_a_download_is_kept_under_its_name(tmp_path, monkeypatch, bars, name):
    import torchvision

    class Loader:
        classes = sources.DIGITS

        def __init__(self, root, download, **options):
            raw = Path(root, LOADERS[name], "raw")
            raw.mkdir(parents=True)
            for source in bars.iterdir():
                plain, content = source.name.removesuffix(".gz"), gzip.decompress(source.read_bytes())
                if "split" in options:
                    for other in ("digits", "letters"):
                        (raw / f"emnist-{other}-{plain.replace('t10k', 'test')}").write_bytes(content)
                else:
                    # torchvision keeps what it downloaded beside what it unpacked.
                    (raw / plain).write_bytes(content)
                    (raw / source.name).write_bytes(source.read_bytes())

    monkeypatch.setattr(torchvision.datasets, LOADERS[name], Loader)
    dataset = sources.load(name, tmp_path)
    folder = tmp_path / "datasets" / name
    assert len(list(folder.iterdir())) == 4 and list(folder.parent.iterdir()) == [folder]
    original = sources.load(str(bars), tmp_path).train.images
    expected = original.transpose(0, 2, 1) if name == "emnist-digits" else original
    assert np.array_equal(dataset.train.images, expected)
    monkeypatch.delattr(torchvision.datasets, LOADERS[name])
    if name in ("mnist", "emnist-digits"):
        assert sources.load(name, tmp_path).sha256 == dataset.sha256, "the second time nothing is downloaded"


def test_qmnist_comes_in_two_calls(tmp_path, monkeypatch, bars):
    import torchvision

    class QMNIST:
        def __init__(self, root, download, train):
            raw = Path(root, "QMNIST", "raw")
            raw.mkdir(parents=True, exist_ok=True)
            ours, part = ("train", "train") if train else ("t10k", "test")
            images = gzip.decompress((bars / f"{ours}-images-idx3-ubyte.gz").read_bytes())
            labels = idx.read(bars / f"{ours}-labels-idx1-ubyte.gz", 1)
            (raw / f"qmnist-{part}-images-idx3-ubyte").write_bytes(images)
            columns = np.column_stack([labels, *[labels + 100] * 7]).astype(">i4")
            header = bytes([0, 0, 12, 2]) + len(columns).to_bytes(4, "big") + (8).to_bytes(4, "big")
            (raw / f"qmnist-{part}-labels-idx2-int").write_bytes(header + columns.tobytes())

    monkeypatch.setattr(torchvision.datasets, "QMNIST", QMNIST)
    assert sources.load("qmnist", tmp_path).sha256 == sources.load(str(bars), tmp_path).sha256


@pytest.mark.parametrize(("name", "loader"), [("usps", "USPS"), ("svhn", "SVHN")])
def test_data_sets_that_are_kept_in_other_formats(tmp_path, monkeypatch, bars, name, loader):
    import torchvision

    original = sources.load(str(bars), tmp_path)

    class Loader:
        def __init__(self, root, download, train=True, split="train"):
            part = original.train if train and split == "train" else original.test
            self.data = part.images
            if loader == "SVHN":
                self.data = np.repeat(part.images[:, None], 3, axis=1)
                self.labels = part.targets
            else:
                self.targets = part.targets.tolist()

    monkeypatch.setattr(torchvision.datasets, loader, Loader)
    assert sources.load(name, tmp_path).sha256 == original.sha256
    monkeypatch.delattr(torchvision.datasets, loader)
    assert sources.load(name, tmp_path).sha256 == original.sha256, "the second time nothing is downloaded"


@pytest.mark.parametrize(("name", "count", "first"), [("letters", 26, 1), ("balanced", 47, 0), ("byclass", 62, 0)])
def test_emnists_letters_have_their_names(tmp_path, monkeypatch, name, count, first):
    from torchvision.datasets import EMNIST

    class Loader:
        classes_split_dict = EMNIST.classes_split_dict

        def __init__(self, root, download, split):
            raw = Path(root, "EMNIST", "raw")
            raw.mkdir(parents=True)
            for part, each in (("train", 2), ("test", 1)):
                labels = np.tile(np.arange(first, first + count), each)
                images = np.random.default_rng(0).integers(0, 256, (len(labels), 28, 28))
                (raw / f"emnist-{split}-{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
                (raw / f"emnist-{split}-{part}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))

    monkeypatch.setattr("torchvision.datasets.EMNIST", Loader)
    found = sources.load(f"emnist-{name}", tmp_path)
    assert len(found.classes) == count and found.classes.index("A") == (0 if name == "letters" else 10)
    assert found.test.targets.tolist() == list(range(count))


def test_digits_are_in_the_format_of_mnist(tmp_path):
    dataset = sources.load("digits", tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    assert dataset.train.images.shape[1:] == (28, 28) and dataset.train.images.max() == 255
    assert not dataset.train.images[:, :4].any() and not dataset.train.images[:, :, -4:].any()


def test_folds_hold_out_each_image_once(tmp_path):
    dataset = sources.load("digits", tmp_path)
    parts = [split(dataset, val_size=119, limit=0, fold=f"{number}/5") for number in range(1, 6)]
    assert sorted(image.tobytes() for part in parts for image in part.val.images) == sorted(
        image.tobytes() for image in dataset.train.images
    )
    for part in parts:
        assert len(part.train) + len(part.val) == len(dataset.train)
        assert np.ptp(np.bincount(part.val.targets) * 5 - np.bincount(dataset.train.targets)) <= 10
    with pytest.raises(InputError, match="folds=1 leaves no image"):
        split(dataset, val_size=119, limit=0, fold="1/1")


def test_split_is_stratified_disjoint_and_the_same_every_time(tmp_path):
    dataset = sources.load("digits", tmp_path)
    splits = split(dataset, val_size=119, limit=0)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (1318, 119, 360)
    assert np.bincount(splits.val.targets).min() >= 11
    again = split(dataset, val_size=119, limit=500)
    assert again.val.sha256 == splits.val.sha256 and len(again.train) == 500
    everything = {image.tobytes() for image in dataset.train.images}
    parts = [{image.tobytes() for image in part.images} for part in (splits.train, splits.val)]
    assert parts[0] | parts[1] == everything and not parts[0] & parts[1]


def test_an_impossible_split_says_what_to_change(tmp_path, bars):
    with pytest.raises(InputError, match="change val_size or limit"):
        split(sources.load(str(bars), tmp_path), val_size=5, limit=0)


def test_manifest_reports_what_matters(tmp_path):
    folder = write_idx_folder(tmp_path / "set")
    first = sources.load(str(folder), tmp_path)
    train = np.concatenate([first.train.images[:-1], first.test.images[:1]])
    labels = np.where(first.train.targets == 4, 5, first.train.targets)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(idx_bytes(train))
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(idx_bytes(labels))
    found = manifest.describe(sources.load(str(folder), tmp_path))
    assert found["test_images_also_in_train"] == 1
    assert found["train"]["absent_classes"] == ["4"]
    assert found["train"]["images_per_class"]["5"] == 24
    assert found["train"]["mean"] == pytest.approx(train.mean() / 255, abs=1e-4)
    assert found["sha256"] != first.sha256


# What a process of its own holds at most, above what it holds with all libraries and images of no size.
PEAK = """
import sys
from pathlib import Path

from pipeline.data import manifest, sources
from pipeline.data.splits import split


def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def use(folder):
    dataset = sources.load(folder, Path(folder))
    manifest.describe(dataset)
    split(dataset, val_size=len(dataset.train) // 12, limit=0)


use(sys.argv[1])
before = peak()
use(sys.argv[2])
print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="only Linux says what a process held at most")
def test_reading_describing_and_splitting_take_at_most_two_and_a_half_times_the_images(tmp_path):
    small, large = write_idx_folder(tmp_path / "small"), tmp_path / "large"
    large.mkdir()
    for prefix, count in (("train", 100_000), ("t10k", 20_000)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        idx.write(large / f"{prefix}-labels-idx1-ubyte", labels)
        # No two alike, which a set of them would hold once.
        images = np.random.default_rng(count).integers(0, 256, (count, 28, 28), np.uint8)
        idx.write(large / f"{prefix}-images-idx3-ubyte", images)
    command = [sys.executable, "-c", PEAK, str(small), str(large)]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=PROJECT, timeout=120)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) < 2.5 * 120_000 * 28 * 28, f"{int(ended.stdout) / (120_000 * 28 * 28):.2f} times"


@needs_mnist
def test_real_mnist(tmp_path):
    found = manifest.describe(sources.load(str(MNIST), tmp_path))
    assert found["name"] == "mnist"
    assert (found["train"]["images"], found["test"]["images"]) == (60_000, 10_000)
    assert (found["train"]["mean"], found["train"]["std"]) == (0.1307, 0.3081)
    assert found["train"]["images_per_class"]["1"] == 6742
