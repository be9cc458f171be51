"""One training from the command line to the registry, against a tracking server with its own database."""

import json
import re
import shutil
import subprocess

import mlflow
import numpy as np
import pandas as pd
import pytest
from support import PROJECT, only_run, pipeline, tracking_server

from pipeline import config
from pipeline.data import sources


@pytest.fixture
def server(environment, monkeypatch):
    """A real MLflow server over HTTP with a database and an artifact store of its own."""
    with tracking_server(environment) as uri:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        yield uri


def test_everything_a_training_promises_over_http(server, bars):
    out, _ = pipeline(
        *("train", "--model", "cnn", "--dataset", str(bars), "--epochs", "6", "--batch_size", "16", "--val-size", "20"),
        *("--model-args", "channels=(8, 16),dropout=0.1"),
        env={"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1"},
    )
    assert out.count("val accuracy") == 6, "plain lines where no terminal looks"
    run = only_run()
    assert run.info.status == "FINISHED" and run.info.run_name == (
        "cnn channels=(8,16) dropout=0.1 epochs=6 batch_size=16 val_size=20 seed 0"
    )
    assert f"{server}/#/experiments/0/runs/{run.info.run_id}" in out

    params = run.data.params
    assert set(params) == set(config.TrainConfig.__dataclass_fields__) - {"fold"}
    assert params["batch_size"] == "16" and json.loads(params["model_args"]) == {"channels": [8, 16], "dropout": 0.1}

    dataset = sources.load(str(bars), bars)
    tags = run.data.tags
    assert tags["dataset"] == "bars" and tags["dataset_sha256"] == dataset.sha256
    assert tags["architecture"] == "cnn" and {"device", "torch", "torchvision"} <= set(tags)
    assert tags["mlflow.source.git.commit"] == git_commit()
    assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {
        "bars-training",
        "bars-validation",
        "bars-test",
    }

    client = mlflow.MlflowClient()
    for name in ("train/loss", "val/loss", "val/accuracy", "val/f1", "train/lr", "train/images_per_second"):
        assert [metric.step for metric in client.get_metric_history(run.info.run_id, name)] == [1, 2, 3, 4, 5, 6]
    metrics = run.data.metrics
    assert metrics["time/total_s"] > metrics["time/train_s"] > 0 and metrics["cost/parameters"] > 1000
    assert any(name.startswith("system/") for name in metrics)

    files = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    pictures = {"confusion_matrix.png", "learning_curves.png", "errors.png"}
    assert pictures | {"per_class.csv", "predictions.csv", "best_epoch.json"} <= files
    predictions = pd.read_csv(client.download_artifacts(run.info.run_id, "predictions.csv"), dtype={"target": str})
    assert predictions["target"].tolist() == [dataset.classes[target] for target in dataset.test.targets]
    accuracy = (predictions["target"] == predictions["prediction"].astype(str)).mean()
    assert metrics["test/accuracy"] == pytest.approx(accuracy)
    probability = predictions[[f"probability_{name}" for name in dataset.classes]].to_numpy()

    (version,) = client.search_model_versions("name = 'bars-cnn'")
    assert version.run_id == run.info.run_id
    assert float(version.tags["accuracy"]) == pytest.approx(metrics["test/accuracy"], abs=1e-4)
    assert {"interval", "architecture", "dataset", "dataset_sha256", "protocol", "task"} <= set(version.tags)
    for tag in ("architecture", "dataset", "protocol"):
        (found,) = client.search_model_versions(f"tags.{tag} = '{version.tags[tag]}'")
        assert found.version == version.version

    (logged,) = client.search_logged_models(["0"], "tags.architecture = 'cnn' and metrics.`val/accuracy` > 0")
    assert logged.name == "bars-cnn channels=(8,16) dropout=0_1 epochs=6 batch_size=16 val_size=20 seed 0"
    assert logged.model_type == "classification" and logged.params == params
    final = {metric.key: metric for metric in logged.metrics}
    for name, kind in (("test/accuracy", "test"), ("test/loss", "test"), ("val/accuracy", "validation")):
        assert final[name].dataset_name == f"bars-{kind}" and final[name].run_id == run.info.run_id
        assert {entry.dataset.digest for entry in run.inputs.dataset_inputs} >= {final[name].dataset_digest}
    assert final["test/accuracy"].value == metrics["test/accuracy"]
    best = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/best_epoch.json"))
    assert final["val/accuracy"].value == best["val/accuracy"] and final["val/accuracy"].step == best["epoch"]
    model = mlflow.pyfunc.load_model("models:/bars-cnn/1")
    assert np.allclose(model.predict(dataset.test.images), probability, atol=1e-5)


def git_commit() -> str:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True)
    return head.stdout.strip()


BROKEN = """
from models.mlp import *


class Broken(MLP):
    def forward(self, x):
        if self.training:
            raise RuntimeError("a defect that only training shows")
        return super().forward(x)


build = Broken
"""


def test_a_study_survives_one_failing_architecture_and_is_continued(environment, command, bars):
    for folder in ("models", "pipeline"):
        shutil.copytree(PROJECT / folder, environment / "project" / folder)
    (environment / "project" / "models" / "broken.py").write_text(BROKEN)
    project = {"env": {"PYTHONPATH": str(environment / "project")}}
    options = ["main", "--dataset", str(bars), "--epochs", "1", "--val-size", "20", "--limit", "60"]

    first, err = pipeline(*options, "--models", "broken,mlp,cnn", code=1, **project)
    assert "broken seed 0: failed: RuntimeError('a defect that only training shows')" in err
    assert "1 of 3 trainings failed: broken seed 0" in err and "Traceback" not in err
    client = mlflow.MlflowClient()
    study = only_run("study")
    assert study.info.status == "FAILED" and "a defect" in study.data.tags["failure"]
    table = first[first.index("test images, protocol") :]
    assert "\nmlp " in table and "\ncnn " in table and "\nbroken " not in table

    second, _ = pipeline(*options, "--models", "broken,mlp,cnn", code=1, **project)
    assert second.count("finished before") == 2 and only_run("study").info.run_id == study.info.run_id

    third, _ = command(*options, "--models", "mlp", "--seeds", "3")
    assert "mlp seed 0: finished before" in third and "mlp seed 2: training" in third and "±" in third
    study = only_run("study")
    assert study.info.status == "FINISHED" and "failure" not in study.data.tags
    children = client.search_runs(["0"], f"tags.`mlflow.parentRunId` = '{study.info.run_id}'")
    finished = sorted(run.info.run_name for run in children if run.info.status == "FINISHED")
    assert finished == ["cnn seed 0", "mlp seed 0", "mlp seed 1", "mlp seed 2"]
    failed = [run for run in children if run.info.status == "FAILED"]
    assert [run.info.run_name for run in failed] == ["broken seed 0"] * 2, "what failed is tried again"
    assert "a defect" in mlflow.artifacts.load_text(f"{failed[0].info.artifact_uri}/traceback.txt")

    other, _ = command(*options, "--models", "mlp", "--lr", "0.01")
    assert "finished before" not in other, "other options make another study"
    table = environment / "table.parquet"
    command("compare", "--study", study.info.run_id, "--output", str(table))
    seeds = pd.read_parquet(table).set_index("architecture")["seeds"]
    assert seeds.to_dict() == {"cnn": 1, "mlp": 3}
    logged = pd.read_csv(client.download_artifacts(study.info.run_id, "comparison.csv"))
    pd.testing.assert_frame_equal(logged, pd.read_parquet(table))
    assert "mlp" in mlflow.artifacts.load_text(f"{study.info.artifact_uri}/comparison.md")
    everything, _ = command("compare", "--experiment", "Default", "--filter", "tags.architecture = 'mlp'")
    labels = re.findall(r"^mlp (\S+=\S+) ", everything, flags=re.MULTILINE)
    assert sorted(labels) == ["lr=0.003", "lr=0.01"] and "cnn" not in everything, "two recipes of one architecture"


def test_one_study_over_several_data_sets_and_numbers_of_images(environment, command, mistake, bars):
    options = ["main", "--models", "mlp,cnn", "--epochs", "1", "--val-size", "20", "--workers", "1"]
    out, _ = command(*options, "--datasets", f"digits,{bars}", "--limits", "60,40")
    assert "Study on digits, " in out and "8 trainings" in out and "[8/8] " in out
    for name, images in (("digits", 360), ("bars", 20)):
        assert f"\n{name}: accuracy % by training images\n" in out
        assert all(f"\n{name}, {size} training images: {images} test images, protocol " in out for size in (60, 40))
    assert "\nOver 2 data sets, 60 training images of each: " in out and " differs from " not in out
    study = only_run("study")
    assert study.info.run_name == "digits, bars study epochs=1 val_size=20 limits=40,60"
    runs = mlflow.MlflowClient().search_runs(["0"], f"tags.`mlflow.parentRunId` = '{study.info.run_id}'")
    assert {run.info.run_name for run in runs} >= {
        "mlp dataset=bars limit=40 seed 0",
        "cnn dataset=digits limit=60 seed 0",
    }

    again, _ = command(*options, "--datasets", f"{bars},digits", "--limits", "40,60")
    assert again.count("finished before") == 8 and only_run("study").info.run_id == study.info.run_id
    report = mlflow.artifacts.load_text(f"{study.info.artifact_uri}/report.html")
    assert "Vision architectures compared on bars, digits" in report and "40 training images" in report

    out, _ = command("promote", "--model", "all")
    for name in ("bars-mlp", "bars-cnn", "digits-mlp", "digits-cnn"):
        champion = mlflow.MlflowClient().get_model_version_by_alias(name, "champion")
        assert f"Promoted {name} version" in out
        assert mlflow.MlflowClient().get_run(champion.run_id).data.params["limit"] == "60", "the most images"

    # One of either is what the options for one mean.
    alone, _ = command(*options, "--dataset", str(bars), "--limit", "40")
    assert "finished before" not in alone
    again, _ = command(*options, "--datasets", str(bars), "--limits", "40")
    assert again.count("finished before") == 2

    out, _ = command(*options, "--datasets", str(bars), "--limits", "40,100,0,5000")
    assert "4 trainings are different" in out and "\nmlp limit" not in out

    both = ["--datasets", f"digits,{bars}"]
    assert "a name is that of one" in mistake(*options, *both, "--name", "mine", code=2).lower()
    assert "either dataset or datasets" in mistake(*options, *both, "--dataset", "mnist", code=2)
    assert "leaves classes of bars without" in mistake(*options, "--dataset", str(bars), "--limits", "5,50", code=2)
    assert "either limit or limits" in mistake(*options, "--limit", "40", "--limits", "50,60", code=2)
    assert "'forty' is no list of numbers" in mistake(*options, "--limits", "forty", code=2)
    shutil.copytree(bars, environment / "copy")
    assert "have the same images" in mistake(*options, "--datasets", f"{bars},{environment / 'copy'}", code=2)


def test_weights_of_a_registered_model_and_of_a_file_start_a_training(environment, command, bars):
    options = ["train", "--model", "cnn", "--dataset", str(bars), "--val-size", "20"]
    first, _ = command(*options, "--epochs", "12", "--batch-size", "16", "--model-args", "channels=(16,32)")
    (reached,) = re.findall(r"[\d.]+% of the 20 test images", first)
    # From fresh weights one epoch at this rate would be no better than a guess.
    assert float(reached.split("%")[0]) > 80
    out, _ = command(*options, "--epochs", "1", "--lr", "1e-6", "--weights", "models:/bars-cnn/1")
    assert reached in out, "it starts where the registered model stopped"
    study = ["main", "--models", "cnn", *options[3:], "--epochs", "1", "--lr", "1e-6"]
    out, _ = command(*study, "--weights", "models:/bars-cnn/1")
    assert reached in out
    file = min((environment / "mlruns").rglob("weights.safetensors"), key=lambda path: path.stat().st_mtime)
    out, _ = command(*options, "--epochs", "1", "--lr", "1e-6", "--weights", str(file), "--freeze", "features")
    assert reached in out
    _, err = command("train", "--model", "mlp", "--dataset", str(bars), "--weights", str(file), code=2)
    assert "holds the weights of cnn, not of mlp" in err


def test_a_study_finds_a_wrong_option_before_it_starts(environment, bars, mistake):
    err = mistake("main", "--dataset", str(bars), "--models", "mlp,vit", "--image-size", "30", code=2)
    assert "vit cannot be built with" in err and "30 is no multiple of patch_size 7" in err
    assert mlflow.MlflowClient().search_runs(["0"]) == []


def test_a_diverging_training_fails_with_advice(environment, mistake, bars):
    wild = ["--optimizer", "sgd", "--lr", "99", "--model-args", "hidden=500", "--epochs", "50"]
    err = mistake("train", "--model", "mlp", "--dataset", str(bars), "--val-size", "20", *wild, code=1)
    assert "try a smaller lr than 99" in err
    run = only_run()
    assert run.info.status == "FAILED" and "try a smaller lr" in run.data.tags["failure"]
