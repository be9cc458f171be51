"""Published weights through torchvision's own loader, from files where torchvision keeps its downloads."""

import urllib.request
from pathlib import Path

import mlflow
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from support import only_run, write_idx_folder

import models


@pytest.fixture
def published(environment, monkeypatch):
    """Put a state dict of torchvision's own architecture where its download of published weights would be."""
    monkeypatch.setenv("TORCH_HOME", str(environment / "torch"))

    def place(name: str, build=None) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        build = build or torchvision.models.get_model_builder(name)
        state = build(
            weights=None, **({"weights_backbone": None} if "fasterrcnn" in build.__name__ else {})
        ).state_dict()
        file = environment / "torch" / "hub" / "checkpoints" / Path(models.get(name).published({}).url).name
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, file)
        return state

    return place


def registered_weights(environment) -> dict[str, torch.Tensor]:
    (file,) = (environment / "mlruns").rglob("weights.safetensors")
    return load_file(file)


def test_alexnet_is_fine_tuned_at_224_px_with_a_new_head(environment, command, bars, published):
    start = published("alexnet")
    command("train", "--model", "alexnet", "--dataset", str(bars), "--limit", "30", "--val-size", "20", "--epochs", "1")
    params = only_run().data.params
    assert (params["weights"], params["image_size"], params["freeze"]) == ("imagenet", "224", "none")
    trained = registered_weights(environment)
    assert trained["classifier.6.weight"].shape == (10, 4096)
    # Two small steps: close to where it started, but not the same, in the features as in the kept part of the head.
    for name in ("features.0.weight", "classifier.1.weight"):
        assert not torch.equal(trained[name], start[name])
        assert (trained[name] - start[name]).abs().max() < 0.01


def test_mobilenet_v2_trains_its_classifier_on_frozen_features(environment, command, bars, published):
    start = published("mobilenet_v2")
    command("train", "--model", "mobilenet_v2", "--dataset", str(bars), "--val-size", "20", "--epochs", "3")
    params = only_run().data.params
    assert (params["weights"], params["freeze"], params["augment"]) == ("imagenet", "features", "none")
    trained = registered_weights(environment)
    assert trained["classifier.1.weight"].shape == (10, 1280)
    assert all(torch.equal(trained[name], value) for name, value in start.items() if name.startswith("features."))


def test_faster_rcnn_is_fine_tuned_with_the_statistics_it_came_with(environment, command, published):
    start = published("faster_rcnn", torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn)
    few = write_idx_folder(environment / "few", test=4)
    options = ["--dataset", str(few), "--limit", "20", "--val-size", "20", "--epochs", "1", "--task-args", "scenes=0.0"]
    command("train", "--model", "faster_rcnn", *options)
    params = only_run().data.params
    assert (params["weights"], params["in_channels"], params["freeze"]) == ("imagenet", "3", "none")
    trained = registered_weights(environment)
    assert trained["roi_heads.box_predictor.cls_score.weight"].shape == (11, 1024)
    for name in ("rpn.head.cls_logits.weight", "roi_heads.box_head.fc7.weight"):
        assert not torch.equal(trained[name], start[name])
        assert (trained[name] - start[name]).abs().max() < 0.01
    statistics = [name for name in trained if name.endswith("running_mean")]
    assert statistics and all(torch.equal(trained[name], start[name]) for name in statistics)


def test_weights_that_cannot_be_downloaded_start_no_run(environment, bars, mistake, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(environment / "empty"))
    # A proxy that refuses connections: no test should reach for the real server, even where there is network.
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    # urllib remembers the proxies of its first call in a process.
    monkeypatch.setattr(urllib.request, "_opener", None)
    err = mistake("train", "--model", "alexnet", "--dataset", str(bars), code=2)
    assert "the published weights of alexnet could not be downloaded" in err and err.endswith(" --weights none\n")
    assert mlflow.MlflowClient().search_runs(["0"]) == []


def test_a_file_that_hides_code_is_not_unpickled(environment, bars, mistake, tmp_path):
    class Malice:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "executed",))

    torch.save({"weight": Malice()}, tmp_path / "weights.pth")
    err = mistake("train", "--model", "cnn", "--dataset", str(bars), "--weights", str(tmp_path / "weights.pth"), code=2)
    assert "holds no weights that can be read safely" in err
    assert not (tmp_path / "executed").exists()
