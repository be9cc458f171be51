"""Data that people bring: what is found in it before and after training."""

import json

import mlflow
import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from support import idx_bytes, only_run, write_idx_folder

import models
from pipeline.data import idx, sources
from pipeline.data.pictures import png
from pipeline.errors import InputError
from pipeline.registry import bundle

SMALL = ["--limit", "60", "--val-size", "20", "--epochs", "1"]


def test_a_test_file_that_is_a_copy_of_training_is_named_at_every_verdict(environment, command):
    folder = write_idx_folder(environment / "copied")
    for kind, dimensions in (("images-idx3", 3), ("labels-idx1", 1)):
        copied = idx.read(folder / f"train-{kind}-ubyte.gz", dimensions)[:30]
        (folder / f"t10k-{kind}-ubyte.gz").write_bytes(idx_bytes(copied))
    warning = "30 of the 30 test images are training images as well: the accuracy on them says nothing."
    out, _ = command("main", "--dataset", str(folder), "--models", "mlp", *SMALL)
    assert warning in " ".join(out.split())
    out, _ = command("compare")
    assert warning in " ".join(out.split())
    command("report", "--output", "report.html")
    assert warning in (environment / "report.html").read_text()
    out, _ = command("promote", "--dry-run")
    assert warning in out
    out, _ = command("promote")
    assert warning in out
    version = mlflow.MlflowClient().get_model_version_by_alias("copied-mlp", "champion")
    assert warning in version.tags["promotion.decision"] and warning in version.description


def test_prepare_writes_idx_and_finds_what_is_wrong(environment, command, mistake):
    digits = sources.digits(environment)
    folder = environment / "found"
    wrong, nearly, blank = 40, 7, 11
    for part, images in (("train", digits.train.subset(np.arange(600))), ("test", digits.test.subset(np.arange(100)))):
        for number, (image, target) in enumerate(zip(images.images, images.targets, strict=True)):
            name = digits.classes[target]
            picture = Image.fromarray(image)
            if (part, number) == ("train", wrong):
                name = digits.classes[(target + 5) % 10]
            elif (part, number) == ("test", nearly):
                picture = ImageEnhance.Brightness(Image.fromarray(digits.train.images[nearly])).enhance(0.9)
                name = digits.classes[digits.train.targets[nearly]]
            elif (part, number) == ("test", blank):
                picture = Image.new("L", picture.size)
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            (folder / part / name / f"{number}.png").write_bytes(png(np.asarray(picture)))
    out, _ = command("prepare", "--dataset", str(folder), "--output", "as-idx")
    assert f"Written:  {environment / 'as-idx'}\n" in out
    assert f"images without ink: no. {blank}" in out and "training labels look wrong" in out
    manifest = json.loads((environment / "as-idx" / "manifest.json").read_text())
    assert {"test": nearly, "train": nearly} in manifest["nearest"]
    assert wrong in [suspect["train"] for suspect in manifest["suspects"]]
    run = only_run("preparation")
    assert mlflow.artifacts.load_image(f"{run.info.artifact_uri}/suspects.png").size[0] > 500
    written = sources.load(str(environment / "as-idx"), environment)
    assert written.sha256 == manifest["sha256"] and written.classes == digits.classes
    assert "is there already" in mistake("prepare", "--dataset", str(folder), "--output", "as-idx", code=2)


def test_classes_keep_their_names_when_written_as_idx(environment, command):
    folder = environment / "letters"
    for number in range(12):
        (folder / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        image = np.zeros((28, 28), np.uint8)
        image[number : number + 6] = 200
        (folder / "ab"[number % 2] / f"{number}.png").write_bytes(png(image))
    command("prepare", "--dataset", str(folder), "--output", "as-idx", "--examine", "false")
    original, written = (sources.load(str(path), environment) for path in (folder, environment / "as-idx"))
    assert written.classes == ("a", "b") and written.sha256 == original.sha256


def mlp_state():
    torch.manual_seed(0)
    return models.get("mlp").build().state_dict()


WRAPPED = {
    "Lightning": lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}, "epoch": 3},
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "torch.compile": lambda state: {f"_orig_mod.{name}": value for name, value in state.items()},
    "both": lambda state: {"model_state_dict": {f"module._orig_mod.{name}": value for name, value in state.items()}},
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_weights_are_taken_out_of_checkpoints_and_wrappers(tmp_path, caplog, wrapping):
    state = mlp_state()
    torch.save(WRAPPED[wrapping](state), tmp_path / "weights.pt")
    with caplog.at_level("INFO", logger="pipeline"):
        found = bundle.read_weights(tmp_path / "weights.pt", model="mlp").state
    assert found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in state)
    assert "taken" in caplog.text


@pytest.mark.parametrize("content", [{"state_dict": {}}, {"state_dict": {"a": 1}}, {"epoch": 3}, []])
def test_a_checkpoint_without_weights_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="holds no weights"):
        bundle.read_weights(tmp_path / "weights.pt", model="mlp")
