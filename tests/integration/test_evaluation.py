"""Registered models on other data, and in other formats."""

import mlflow
import numpy as np
import pytest
from support import idx_bytes, only_run, write_idx_folder

import models
from pipeline.registry import export, loading


@pytest.mark.parametrize("name", models.names())
def test_every_architecture_is_evaluated_and_exported(champions, command, mistake, bars, name):
    client = mlflow.MlflowClient()
    uri = f"models:/bars-{name}/1"
    out, _ = command("evaluate", "--model-uri", uri, "--dataset", str(bars))
    version = client.get_model_version(f"bars-{name}", "1")
    run = client.get_run(version.tags["evaluation.bars.run"])
    trained = client.get_run(version.run_id).data.metrics
    for score in ("test/accuracy", "test/f1", "test/loss"):
        assert run.data.metrics[score] == pytest.approx(trained[score], abs=1e-5), (name, score)
    assert f"{trained['test/accuracy']:.2%} of the 20 test images right" in out
    # MLflow's page of the model leads to the run, and back.
    assert [f"models:/{used.model_id}" for used in run.inputs.model_inputs] == [version.source]
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert {"confusion_matrix.png", "predictions.csv", "per_class.csv"} <= files

    original = loading.load(uri)
    for form in export.FORMATS:
        arguments = ["export", "--model-uri", uri, "--format", form, "--output", f"{name}.{form}"]
        if name == "faster_rcnn":
            assert f"cannot be exported as {form}: how many regions" in mistake(*arguments, code=2)
            assert not (champions / f"{name}.{form}").exists()
        else:
            assert "differs from the original by at most" in command(*arguments)[0]
            # One image, and more than those it was traced with: their number is no constant of the file.
            answer = export.FORMATS[form][1](champions / f"{name}.{form}")
            for count in (1, 5):
                images = np.random.default_rng(0).integers(0, 256, (count, 28, 28), np.uint8)
                expected = original.log_probabilities(original.answer(images))
                assert np.allclose(answer(images), np.exp(expected), atol=1e-4)


def test_images_of_another_size_are_fitted(champions, command):
    other_size = write_idx_folder(champions / "small", side=20, test=30)
    out, _ = command("evaluate", "--model-uri", "models:/bars-mlp/1", "--dataset", str(other_size))
    assert "small: " in out and "of the 30 test images" in out


def test_a_file_that_answers_otherwise_is_not_written(environment, command, bars, mistake, monkeypatch):
    command("train", "--model", "mlp", "--dataset", str(bars), "--epochs", "1")
    write, read = export.FORMATS["pt2"]
    monkeypatch.setitem(export.FORMATS, "pt2", (write, lambda path: lambda images: read(path)(images) + 0.001))
    arguments = ["export", "--model-uri", "models:/bars-mlp/1", "--format", "pt2", "--output", "other.pt2"]
    assert "answers otherwise than the original, by up to 0.001" in mistake(*arguments, code=1)
    assert not (environment / "other.pt2").exists()


def test_classes_the_model_does_not_know(environment, command, mistake, bars):
    two = write_idx_folder(environment / "two")
    labels = two / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(idx_bytes(np.arange(120) % 2))
    (two / "t10k-labels-idx1-ubyte.gz").write_bytes(idx_bytes(np.arange(20) % 2))
    command("train", "--model", "mlp", "--dataset", str(two), "--epochs", "1")
    says = mistake("evaluate", "--model-uri", "models:/two-mlp/1", "--dataset", str(bars), code=2)
    assert "two-mlp version 1 knows the classes 0, 1, the data set has 2, 3" in says
    # The other way round every class is known.
    command("train", "--model", "mlp", "--dataset", str(bars), "--epochs", "30")
    command("evaluate", "--model-uri", "models:/bars-mlp/1", "--dataset", str(two))
    assert 0 < only_run("evaluation").data.metrics["test/accuracy"] < 1
