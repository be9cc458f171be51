"""The registered model in other hands: a process without this project, and MLflow's own server."""

import base64
import functools
import io
import os
import re
import subprocess
import sys
import urllib.error
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support import ask, serving

import models
from pipeline.data import sources
from pipeline.metrics.detection import classify

IMPORTS = re.compile(r"^(?:import|from) (\w+)", flags=re.MULTILINE)
STRANGER = """
import sys, numpy, mlflow
images = numpy.load("images.npy")
for name in sys.argv[1:]:
    model = mlflow.pyfunc.load_model(f"models:/bars-{name}/1")
    if model.metadata.get_params_schema():
        model.predict(images, params={"min_score": 0.0}).to_parquet(name + ".parquet")
    else:
        numpy.save(name, model.predict(images))
loaded = [name for name in sys.modules if name.split(".")[0] in ("pipeline", "models")]
assert not loaded, loaded
"""


def test_every_architecture_loads_where_this_project_is_not_and_predicts_as_its_run_did(champions, environment, bars):
    dataset = sources.load(str(bars), environment)
    client = mlflow.MlflowClient()
    runs = {run.data.tags["architecture"]: run for run in client.search_runs(["0"], "tags.kind = 'training'")}
    assert set(runs) == set(models.names())

    elsewhere = environment / "elsewhere"
    elsewhere.mkdir()
    np.save(elsewhere / "images.npy", dataset.test.images)
    bare = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    stranger = [sys.executable, "-I", "-c", STRANGER, *runs]
    subprocess.run(stranger, cwd=elsewhere, env=bare, check=True, timeout=200)
    for name, run in runs.items():
        predictions = pd.read_csv(
            client.download_artifacts(run.info.run_id, "predictions.csv"), dtype={"prediction": str}
        )
        logged = predictions.filter(like="probability_").to_numpy()
        if run.data.tags["task"] == "detection":
            table = pd.read_parquet(elsewhere / f"{name}.parquet")
            served = np.exp(classify(rows_of(table, len(dataset.test)), len(dataset.classes)))
        else:
            served = np.load(elsewhere / f"{name}.npy")
            assert served.dtype == np.float32
        assert np.allclose(served, logged, atol=1e-5), name
        labels = [(*dataset.classes, "nothing")[outcome] for outcome in served.argmax(1)]
        assert labels == predictions["prediction"].tolist(), name


def rows_of(table: pd.DataFrame, images: int) -> np.ndarray:
    """A served detector's table as the detections (N, K, 6) it was made from."""
    found = np.zeros((images, 100, 6), np.float32)
    found[:, :, 5] = -1
    place = table.groupby("image").cumcount()
    found[table["image"], place] = table[["x1", "y1", "x2", "y2", "score", "label"]].astype(float)
    return found


@functools.cache
def loaded(store: str) -> mlflow.pyfunc.PyFuncModel:
    """The model, read once: most tests only ask it."""
    return mlflow.pyfunc.load_model("models:/bars-mlp/1")


@pytest.fixture
def model(champions, champions_store) -> mlflow.pyfunc.PyFuncModel:
    """A registered model."""
    return loaded(champions_store)


IMAGES = np.zeros((3, 28, 28), np.uint8)
REFUSED = [
    (IMAGES.astype(np.float32), r"not float32\. Pixels in \[0, 1\] must be multiplied by 255"),
    (IMAGES + 0.5 * 100, "not float64"),
    (IMAGES.astype(np.int64) + 256, "not from 256 to 256"),
    (IMAGES.astype(np.int64) - 1, "not from -1 to -1"),
    (IMAGES[:, :27], r"not of shape \(3, 27, 28\)"),
    (IMAGES[0], r"not of shape \(28, 28\)"),
    (IMAGES[:0], r"not of shape \(0, 28, 28\)"),
    (IMAGES.astype(bool), "not bool"),
    (IMAGES.astype(str), "not <U"),
    (pd.DataFrame(IMAGES[0]), "as a numpy array, not DataFrame|not match|structure"),
]


@pytest.mark.parametrize(("images", "says"), REFUSED)
def test_wrong_input_is_refused_and_never_rounded(model, images, says):
    with pytest.raises(mlflow.exceptions.MlflowException, match=says):
        model.predict(images)


@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.uint16])
def test_whole_numbers_of_any_width_are_the_same_image(model, kind):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28))
    assert np.array_equal(model.predict(images.astype(kind)), model.predict(images.astype(np.uint8)))


def test_signature_requirements_and_example_come_along(model):
    metadata = model.metadata
    assert metadata.metadata["input"] == "uint8 (N, 28, 28), 0 black to 255 white"
    assert metadata.get_output_schema().inputs[0].shape == (-1, 10)
    assert metadata.saved_input_example_info
    packages = mlflow.pyfunc.get_model_dependencies("models:/bars-mlp/1")
    imported = {
        word
        for file in models.__path__
        for path in Path(file).glob("[!_]*.py")
        for word in IMPORTS.findall(path.read_text())
    }
    pins = [line.strip() for line in Path(packages).read_text().splitlines()]
    assert all("==" in pin and "+" not in pin for pin in pins)
    assert {"torch", "torchvision"} <= imported - {"itertools"} <= {pin.split("==")[0] for pin in pins}


def test_png_files_as_text_are_the_same_images(model):
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28), np.uint8)
    assert np.array_equal(model.predict(np.array([png(image) for image in images], object)), model.predict(images))


def test_other_text_is_refused(model):
    clear, deep = np.zeros((28, 28, 4), np.uint8), np.zeros((28, 28), np.uint16)
    large = png(np.zeros((29, 28), np.uint8))
    for text in ("hello", "", png(clear), png(deep), large, png(np.zeros((28, 28), np.uint8))[:60]):
        with pytest.raises(mlflow.exceptions.MlflowException, match="number 1 is none"):
            model.predict(np.array([png(np.zeros((28, 28), np.uint8)), text], object))


def png(image: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def test_mlflow_serves_it_and_refuses_pixels_in_0_to_1(model):
    with serving("models:/bars-mlp/1") as port:
        images = np.random.default_rng(0).integers(0, 256, (256, 28, 28))
        answer = ask(port, images.tolist())
        assert np.allclose(answer["predictions"], model.predict(images), atol=1e-5)
        with pytest.raises(urllib.error.HTTPError) as refusal:
            ask(port, (images / 255).tolist())
        assert refusal.value.code == 400
        assert "must be multiplied by 255" in refusal.value.read().decode()
