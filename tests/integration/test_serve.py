"""The registered model in other hands: a process without this project, and MLflow's own server."""

import functools
import json
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
from forms import AS_JSON, IMAGES, IN_PYTHON, NEAR, ONE
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


@pytest.mark.parametrize("name", IN_PYTHON)
def test_in_python_every_form_is_answered_or_refused_by_name(model, name):
    sent, refusal = IN_PYTHON[name]
    if refusal:
        with pytest.raises(mlflow.exceptions.MlflowException, match=re.escape(refusal)) as refused:
            model.predict(sent)
        assert "whole numbers from 0 to 255 of shape (N, 28, 28)" in str(refused.value)
    else:
        first = IMAGES.transpose(0, 2, 1)[0] if name == "transposed array" else IMAGES[0]
        assert np.allclose(model.predict(sent)[0], model.predict(first)[0], atol=1e-6)


@pytest.mark.parametrize("form", ["array", "frame"])
def test_mlflow_evaluates_it_on_arrays_and_frames(model, form):
    pixels, targets = IMAGES.reshape(len(IMAGES), -1), np.array([1, 2, 3])
    data = pixels if form == "array" else pd.DataFrame(pixels).assign(digit=targets)
    with mlflow.start_run():
        found = mlflow.models.evaluate(
            lambda images: model.predict(images).argmax(1),
            data,
            targets=targets if form == "array" else "digit",
            model_type="classifier",
            evaluator_config={"log_explainer": False, "log_model_explainability": False},
        )
    right = (model.predict(IMAGES).argmax(1) == targets).mean()
    assert found.metrics["accuracy_score"] == pytest.approx(right)


def test_signature_requirements_and_example_come_along(model):
    metadata = model.metadata
    assert metadata.metadata["input"] == "uint8 (N, 28, 28), 0 black to 255 white"
    (images,) = metadata.get_input_schema().inputs
    assert images.type == np.uint8 and images.shape == (-1, 28, 28)
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


def test_mlflow_serves_it_and_answers_every_form_or_refuses_it_by_name(model):
    with serving("models:/bars-mlp/1") as port:
        for name, (sent, refusal) in AS_JSON.items():
            if not refusal:
                answer = np.array(ask(port, sent)["predictions"])
                near = 1e-5 if name not in NEAR else 1
                assert np.allclose(answer[0], model.predict(IMAGES)[0], atol=near), name
                continue
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(port, sent)
            assert refused.value.code == 400, name
            assert refusal in json.loads(refused.value.read())["message"], name
        for key in ("instances", "dataframe_split"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(port, [ONE], key=key)
            assert refused.value.code == 400 and "with 'inputs' key" in json.loads(refused.value.read())["message"]


def test_mlflow_predicts_from_files_and_writes_a_dockerfile(model, environment):
    (environment / "images.json").write_text(json.dumps({"inputs": [ONE]}))
    pd.DataFrame(IMAGES.reshape(len(IMAGES), -1)).to_csv(environment / "images.csv", index=False)
    for name, kind in (("images.json", "json"), ("images.csv", "csv")):
        out = mlflow_command("predict", "--env-manager", "local", "-i", name, "-t", kind)
        answer = json.loads(out.splitlines()[-1])["predictions"]
        assert np.allclose(answer[0], model.predict(IMAGES)[0], atol=1e-5), name
    mlflow_command("generate-dockerfile", "-d", "image")
    assert "COPY model_dir" in (environment / "image" / "Dockerfile").read_text()
    assert list((environment / "image" / "model_dir").rglob("weights.safetensors"))


def mlflow_command(command: str, *options: str) -> str:
    """What `mlflow models COMMAND` says of the model."""
    whole = [sys.executable, "-m", "mlflow", "models", command, "-m", "models:/bars-mlp/1", *options]
    path = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return subprocess.run(whole, env=os.environ | path, check=True, capture_output=True, text=True, timeout=200).stdout
