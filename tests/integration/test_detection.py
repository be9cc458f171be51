"""The detector: its scores on cases with known answers, its parts, and what a training of it leaves in MLflow."""

import json
import re
import subprocess
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from support import ask, only_run, serving

import models
from models.faster_rcnn import SeparableRoIAlign
from pipeline.data import sources
from pipeline.data.scenes import NOTHING
from pipeline.evaluation.detection import Detection
from pipeline.metrics import classification, detection
from pipeline.metrics.detection import classify

CLASSES = tuple("0123456789")


def found(*rows: tuple) -> np.ndarray:
    """Detections of one image, filled up to five."""
    empty = (0, 0, 0, 0, 0, NOTHING)
    return np.array([[*rows, *[empty] * (5 - len(rows))]], np.float32)


def truth(*rows: tuple) -> np.ndarray:
    """Objects of one image, filled up to three."""
    return np.array([[*rows, *[(0, 0, 0, 0, NOTHING)] * (3 - len(rows))]])


ONE = (10, 10, 20, 30)
OTHER = (40, 40, 60, 60)


@pytest.mark.parametrize(
    ("detections", "objects", "average_precision", "at_half"),
    [
        pytest.param(found((*ONE, 0.9, 3)), truth((*ONE, 3)), 1, 1, id="found"),
        pytest.param(found(), truth((*ONE, 3)), 0, 0, id="missed"),
        pytest.param(found((*ONE, 0.9, 4)), truth((*ONE, 3)), 0, 0, id="taken for another class"),
        # COCO reads the precision at 101 recalls; 51 of them, 0 to 0.5, are reached.
        pytest.param(found((*ONE, 0.9, 3)), truth((*ONE, 3), (*OTHER, 3)), 51 / 101, 51 / 101, id="one of two"),
        pytest.param(
            found((*OTHER, 0.9, 3), (*ONE, 0.8, 3)), truth((*ONE, 3)), 0.5, 0.5, id="a surer one where nothing is"
        ),
        pytest.param(
            found((*ONE, 0.9, 3), (*OTHER, 0.8, 3)), truth((*ONE, 3)), 1, 1, id="a less sure one where nothing is"
        ),
        # The lower half shares half of the union: right at the first of ten overlaps.
        pytest.param(found((10, 20, 20, 30, 0.9, 3)), truth((*ONE, 3)), 0.1, 1, id="half a box"),
    ],
)
def test_average_precision_of_known_cases(detections, objects, average_precision, at_half):
    scores = detection.scores(detections, objects, CLASSES)
    assert scores["map"] == pytest.approx(average_precision, abs=1e-6)
    assert scores["map_50"] == pytest.approx(at_half, abs=1e-6)
    assert scores["ap_3"] == scores["map"]


def test_the_mean_is_over_the_classes_that_occur():
    scores = detection.scores(found((*ONE, 0.9, 3)), truth((*ONE, 3), (*OTHER, 7)), ("a/b",) * 10)
    assert scores["map"] == pytest.approx(0.5) and scores["mar"] == pytest.approx(0.5)
    scores = detection.scores(found((*ONE, 0.9, 3)), truth((*ONE, 3), (*OTHER, 7)), (*CLASSES[:7], "a/b", "8", "9"))
    assert {name for name in scores if name.startswith("ap_")} == {"ap_3", "ap_a-b"}


def test_images_without_any_object_have_no_score():
    assert detection.scores(found((*ONE, 0.9, 3)), truth(), CLASSES) == {}


def test_precision_recall_of_one_of_two():
    curves = detection.precision_recall(found((*ONE, 0.9, 3)), truth((*ONE, 3), (*OTHER, 3)))
    assert curves[3].tolist() == [1.0] * 51 + [0.0] * 50


def test_what_is_seen_and_what_is_right():
    detections = found((*ONE, 0.9, 3), (*OTHER, 0.9, 4), (*OTHER, 0.4, 5))
    seen, right = detection.match(detections, truth((*ONE, 3), (*OTHER, 5)))
    assert seen.tolist() == [[True, False, False]], "what is not sure does not count as seen"
    assert right.tolist() == [[True, False, True, False, False]]


def test_the_best_box_decides_and_without_a_box_it_is_nothing():
    images = np.concatenate([found((*ONE, 0.6, 3), (*OTHER, 0.7, 5), (*ONE, 0.65, 3)), found(), found((*ONE, 0.02, 9))])
    log_probabilities = classify(images, 10)
    assert log_probabilities.argmax(1).tolist() == [5, 10, 9]
    assert np.exp(log_probabilities).sum(1) == pytest.approx(1)
    assert np.exp(log_probabilities)[0, [3, 5]] == pytest.approx(np.array([0.65, 0.7]) / (0.65 + 0.7 + 8e-3 + 2e-3))
    scores = classification.scores(log_probabilities, np.array([5, 0, 3]))
    assert scores["accuracy"] == pytest.approx(1 / 3), "a miss is wrong whatever the truth"


@settings(max_examples=30)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(1, 24), st.integers(1, 24), st.integers(0, 99))
def test_pooling_is_that_of_torchvision(counts, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(len(counts), 3, height, width, generator=generator, dtype=torch.double)
    # From outside the image to outside it, of no and of any size.
    boxes = [(torch.rand(n, 4, generator=generator, dtype=torch.double) * 1.4 - 0.2) * 4 * height for n in counts]
    regions = [torch.cat([torch.minimum(b[:, :2], b[:, 2:]), torch.maximum(b[:, :2], b[:, 2:])], 1) for b in boxes]
    ours = SeparableRoIAlign(7, 0.25)({"0": features}, regions, [(4 * height, 4 * width)] * len(counts))
    theirs = torchvision.ops.roi_align(features, regions, 7, 0.25, sampling_ratio=2, aligned=True)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_pooling_has_the_gradient_of_torchvision():
    features = torch.randn(2, 3, 8, 8, dtype=torch.double, requires_grad=True)
    regions = [torch.tensor([[1.0, 2, 20, 30]], dtype=torch.double), torch.tensor([[0.0, 0, 9, 9]], dtype=torch.double)]
    weights = torch.randn(2, 3, 7, 7, dtype=torch.double)
    pooled = SeparableRoIAlign(7, 0.25)({"0": features}, regions, [(32, 32)] * 2)
    (ours,) = torch.autograd.grad((pooled * weights).sum(), features)
    aligned = torchvision.ops.roi_align(features, regions, 7, 0.25, sampling_ratio=2, aligned=True)
    (theirs,) = torch.autograd.grad((aligned * weights).sum(), features)
    assert torch.allclose(ours, theirs, atol=1e-6)


@pytest.mark.parametrize("backbone", ["residual", "mobilenet_v3_large_320_fpn", "resnet50_fpn"])
@pytest.mark.parametrize("size", [(28, 28), (9, 33)])
def test_every_backbone_trains_and_answers_in_pixels_of_the_image(backbone, size):
    torch.manual_seed(0)
    module = models.get("faster_rcnn").build(backbone=backbone, num_classes=3)
    inputs = torch.randn(2, 1, *size)
    targets = torch.tensor([[[1, 1, 8, 7, 2], [2, 2, 5, 9, 0]], [[0, 0, 0, 0, NOTHING]] * 2])
    losses = module(inputs, targets)
    assert len(losses) == 4 and all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        answers = module.eval()(inputs)
    there = answers[:, :, 5] >= 0
    assert there.any() and set(answers[:, :, 5].unique().tolist()) <= {NOTHING, 0, 1, 2}
    assert (answers[:, :, :4][there] >= 0).all()
    assert (answers[:, :, 2][there] <= size[1] + 1e-3).all() and (answers[:, :, 3][there] <= size[0] + 1e-3).all()
    scores = answers[:, :, 4]
    assert (scores[:, 1:] <= scores[:, :-1]).all(), "the best first, the empty rows last"


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (28, 28)])
def test_blank_and_tiny_images_are_trained_on_and_answered(size):
    module = models.get("faster_rcnn").build()
    blank = torch.zeros(4, 1, *size)
    nothing = torch.tensor([[[0, 0, 0, 0, NOTHING]]] * 4)
    losses = module(blank, nothing)
    sum(losses.values()).backward()
    assert all(loss.isfinite() for loss in losses.values())
    with torch.no_grad():
        assert module.eval()(blank).shape == (4, 100, 6)


def test_samples_are_the_images_and_scenes_that_never_change(bars, environment):
    dataset = sources.load(str(bars), environment)
    samples = Detection(classes=dataset.classes).samples(dataset.test)
    assert samples["single"] is dataset.test
    again = Detection(classes=dataset.classes, scenes=0.1).samples(dataset.test)
    assert samples["scene"].sha256 == again["scene"].sha256 and len(samples["scene"]) == 20
    wider = Detection(classes=dataset.classes, canvas=96).samples(dataset.test)
    assert wider["scene"].images.shape == (20, 96, 96)
    assert Detection(classes=dataset.classes).samples(dataset.train)["scene"].sha256 != samples["scene"].sha256


def test_a_detector_in_mlflow(environment, command, bars):
    options = ["--dataset", str(bars), "--val-size", "20", "--weights", "none"]
    out, _ = command(
        "train", "--model", "faster_rcnn", *options, "--epochs", "2", "--task-args", "canvas=80,scenes=0.4"
    )
    assert re.search(r"epoch 2/2 .* val mAP 0\.\d{3}", out)
    run = only_run()
    assert json.loads(run.data.params["task_args"]) == {"canvas": 80, "scenes": 0.4}
    metric_names = set(run.data.metrics)
    parts = {"train/loss_objectness", "train/loss_rpn_box", "train/loss_class", "train/loss_box"}
    assert parts <= metric_names
    assert run.data.metrics["train/loss"] == pytest.approx(sum(run.data.metrics[name] for name in parts), rel=1e-4)
    for part in ("val", "test"):
        names = {"loss", "accuracy", "f1", "map", "map_50", "map_75", "mar", "ap_0", "ap_9"}
        assert {f"{part}/{name}" for name in names} <= metric_names

    dataset = sources.load(str(bars), environment)
    scenes = Detection(classes=dataset.classes, canvas=80).samples(dataset.test)["scene"]
    logged = {
        entry.dataset.name: next(tag.value for tag in entry.tags if tag.key == "sha256")
        for entry in run.inputs.dataset_inputs
    }
    assert logged["bars-test-scene"] == scenes.sha256 and logged["bars-test"] == dataset.test.sha256

    client = mlflow.MlflowClient()
    files = {artifact.path for artifact in client.list_artifacts(run.info.run_id)}
    assert {"scenes.png", "misses.png", "precision_recall.png", "confusion_matrix.png", "predictions.csv"} <= files
    predictions = pd.read_csv(client.download_artifacts(run.info.run_id, "predictions.csv"), dtype=str)
    assert len(predictions) == 20 and set(predictions["prediction"]) <= {*dataset.classes, "nothing"}
    accuracy = (predictions["target"] == predictions["prediction"]).mean()
    assert run.data.metrics["test/accuracy"] == pytest.approx(accuracy)

    out, _ = command("main", "--dataset", str(bars), "--models", "mlp,faster_rcnn", "--val-size", "20", "--epochs", "1")
    said = " ".join(out.split())
    # Between the two the letters of the groups.
    assert re.search("faster_rcnn † .{,3} ?1 ", said) and "faster_rcnn: mean average precision" in said
    assert "† A detector" in said and "another quantity than a classifier's" in said
    page = mlflow.artifacts.load_text(f"{only_run('study').info.artifact_uri}/report.html")
    assert "faster_rcnn †" in page and "mAP at 50 %" in page


def test_a_detector_takes_images_as_they_are(environment, mistake, bars):
    options = ["--dataset", str(bars), "--weights", "none"]
    err = mistake("train", "--model", "faster_rcnn", *options, "--image-size", "64", code=2)
    assert "faster_rcnn takes images as they are: leave image_size out" in err
    err = mistake("train", "--model", "faster_rcnn", *options, "--task-args", "canvass=64", code=2)
    assert "did you mean 'canvas'?" in err
    err = mistake("train", "--model", "cnn", *options, "--task-args", "canvas=64", code=2)
    assert "classification has no argument 'canvas'" in err
    err = mistake("train", "--model", "faster_rcnn", *options, "--task-args", "digits=(4,1)", code=2)
    assert "faster_rcnn cannot be trained with task_args digits=(4, 1)" in err


def test_anchors_lie_where_their_features_do_in_images_of_any_size():
    torch.manual_seed(0)
    module = models.get("faster_rcnn").build().eval()
    inputs = torch.randn(1, 1, 50, 71)
    padded = torch.nn.functional.pad(inputs, (0, 1, 0, 2), mode="replicate")
    with torch.no_grad():
        images, maps = module.forward_features(inputs)
        regions, _ = module.rpn(images, maps)
        of_padded, _ = module.rpn(*module.forward_features(padded))
    assert images.tensors.shape[-2:] == (52, 72) and images.image_sizes == [(50, 71)]
    inner = [boxes[(boxes[:, 2] < 48) & (boxes[:, 3] < 48)] for boxes in (*regions, *of_padded)]
    shared = {tuple(box) for box in inner[0].round(decimals=3).tolist()} & {
        tuple(box) for box in inner[1].round(decimals=3).tolist()
    }
    assert len(shared) > 0.9 * len(inner[1])


def test_mlflow_serves_boxes_as_a_table_for_images_of_any_one_size(champions):
    loaded = mlflow.pyfunc.load_model("models:/bars-faster_rcnn/1")
    assert loaded.metadata.metadata["input"] == "uint8 (N, H, W), 0 black to 255 white"
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 70))
    every_box = {"min_score": 0.0}
    table = loaded.predict(images, params=every_box)
    assert table.columns.tolist() == ["image", "x1", "y1", "x2", "y2", "label", "score"]
    assert set(table["image"]) <= {0, 1, 2} and (table["score"] > 0).all()
    sure = loaded.predict(images)
    assert len(sure) == (table["score"] >= 0.5).sum(), "without asking, only what is more likely right than wrong"
    first = loaded.predict(images[0], params=every_box)
    assert len(first) == (table["image"] == 0).sum(), "one image is a batch of one"
    with serving("models:/bars-faster_rcnn/1") as port:
        answer = ask(port, images.tolist(), params=every_box)
    pd.testing.assert_frame_equal(pd.DataFrame(answer["predictions"]), table, atol=1e-4)


def test_the_benchmark_prints_its_tables_and_says_what_is_not_kept(environment, bars):
    benchmark = [sys.executable, "-m", "benchmarks.detection", "--dataset", str(bars), "--epochs", "1", "--rounds", "1"]
    ended = subprocess.run(benchmark, capture_output=True, text=True, timeout=200)
    assert ended.returncode == 1, ended.stderr
    assert "test/map_50" in ended.stdout and "residual blocks in bf16, the default" in ended.stdout
    assert "test/accuracy is 0." in ended.stderr and "0.985 is promised" in ended.stderr
    assert only_run().data.params["epochs"] == "1"
