"""The training loop: repeatable, resumable, honest about broken numbers."""

import random
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import models
from pipeline import config, ending
from pipeline.data import sources
from pipeline.data.images import Dataset, ImageSet
from pipeline.data.splits import split
from pipeline.errors import InputError, Interrupted, PipelineError
from pipeline.metrics.epoch import Epoch
from pipeline.training.engine import batches, gradients, loop, optim
from pipeline.training.engine.loop import fit, predict_images
from pipeline.training.engine.muon import orthogonalize
from pipeline.training.engine.state import Training, check_build

# They train.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(bars, tmp_path_factory):
    return sources.load(str(bars), tmp_path_factory.mktemp("root"))


def start(dataset, name="cnn", *, state=None, weights="none", **options) -> Training:
    overrides = {"epochs": 3, "batch_size": 32} | options.pop("overrides", {})
    options = {"device": "cpu"} | options
    resolved = config.resolve(name, dataset, weights=weights, overrides=overrides, val_size=20, **options)
    return Training(resolved, split(dataset, val_size=20, limit=resolved.limit), state)


def outcome(training: Training) -> tuple[list[dict], dict[str, torch.Tensor]]:
    """What must be equal between two trainings: all metrics but speed, and the weights."""
    metrics = [
        {name: value for name, value in epoch.metrics.items() if name != "train/images_per_second"}
        for epoch in training.history
    ]
    return metrics, training.model.state_dict()


def assert_equal(first: Training, second: Training) -> None:
    (metrics, weights), (other_metrics, other_weights) = outcome(first), outcome(second)
    assert metrics == other_metrics
    assert all(torch.equal(weights[name], other_weights[name]) for name in weights)


@pytest.mark.parametrize("name", ["mlp", "cnn", "vit", "mobilenet_v2", "faster_rcnn"])
def test_the_same_seed_gives_the_same_numbers_bit_for_bit(dataset, name):
    few = {"limit": 40, "overrides": {"epochs": 2}}
    first, second, other = (start(dataset, name, seed=seed, **few) for seed in (3, 3, 4))
    for training in (first, second, other):
        list(fit(training))
    assert_equal(first, second)
    assert outcome(first)[0] != outcome(other)[0]


@pytest.mark.parametrize(
    ("name", "overrides", "model_args"),
    [
        ("cnn", {"optimizer": "adamw"}, {"dropout": 0.5}),
        ("cnn", {"optimizer": "adam"}, {"dropout": 0.5}),
        ("cnn", {"optimizer": "sgd"}, {"dropout": 0.5}),
        ("vit", {"optimizer": "muon"}, {"dropout": 0.5}),
        # Convolutions in fp16 take minutes on most processors.
        ("mlp", {"precision": "fp16", "clip_norm": 1.0}, {}),
        ("faster_rcnn", {}, {}),
    ],
)
def test_resuming_is_bit_identical(dataset, tmp_path, name, overrides, model_args):
    options = {"limit": 40, "overrides": {"lr": 0.01, **overrides}, "model_args": model_args}
    whole = start(dataset, name, **options)
    list(fit(whole))

    cut = start(dataset, name, **options)
    next(fit(cut))
    torch.save(cut.state_dict(), tmp_path / "state")
    torch.manual_seed(999)
    resumed = start(dataset, name, **options)
    resumed.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
    list(fit(resumed))
    assert_equal(whole, resumed)
    assert resumed.best.index == whole.best.index
    assert all(torch.equal(whole.best_weights[name], resumed.best_weights[name]) for name in whole.best_weights)


@pytest.fixture
def alarm():
    """Interrupts the test after so many seconds."""
    before = {number: signal.getsignal(number) for number in (*ending.STOPPING, signal.SIGALRM)}
    signal.signal(signal.SIGALRM, ending.interrupt)
    yield lambda seconds: signal.setitimer(signal.ITIMER_REAL, seconds)
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("name", ["cnn", "faster_rcnn"])
def test_interrupted_at_any_moment_it_goes_on_from_there(dataset, tmp_path, alarm, name):
    options = {"limit": 40, "overrides": {"epochs": 4, "batch_size": 4}, "model_args": {"dropout": 0.5}}
    if name == "faster_rcnn":
        options.pop("model_args")
    undisturbed = start(dataset, name, **options)
    list(fit(undisturbed))

    within, chance = 0, random.Random(1)
    while within < 2:
        cut = start(dataset, name, **options)
        while len(cut.history) < 4:
            try:
                alarm(undisturbed.seconds * chance.uniform(0.05, 0.3))
                list(fit(cut))
                alarm(0)
            except Interrupted:
                within += bool(cut.begun and 0 < cut.begun.step < cut.steps)
                torch.save(cut.state_dict(), tmp_path / "state")
                torch.manual_seed(999)
                cut = start(dataset, name, **options)
                cut.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
        assert_equal(undisturbed, cut)


def test_learns_and_tests_the_best_epoch(dataset):
    training = start(dataset, overrides={"epochs": 12})
    list(fit(training))
    best = max(epoch.metrics["val/accuracy"] for epoch in training.history)
    assert best == 1.0
    assert training.best.metrics["val/accuracy"] == best
    training.use_best()
    assert all(torch.equal(value, training.best_weights[name]) for name, value in training.model.state_dict().items())
    predictions = {"single": predict_images(training, dataset.test.images)}
    assert training.task.score(predictions, {"single": dataset.test})["accuracy"] == 1.0


def test_of_epochs_equally_accurate_the_later_is_the_best(dataset):
    training = start(dataset)
    scores = [(0.98, 0.1), (0.99, 0.2), (0.99, 0.3), (0.97, 0.05)]
    for index, (accuracy, loss) in enumerate(scores, start=1):
        training.history.append(Epoch(index, {"val/accuracy": accuracy, "val/loss": loss}, 1.0))
    assert training.best.index == 3


def test_fp16_survives_gradients_that_overflow(dataset):
    training = start(dataset, "mlp", overrides={"epochs": 60, "precision": "fp16"})
    # So large that the first steps overflow: the scaler must skip them and find a scale that fits.
    training.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    list(fit(training))
    assert training.scaler.get_scale() < 2.0**40
    assert all(value.isfinite().all() for value in training.model.state_dict().values())
    assert training.best.metrics["val/accuracy"] > 0.9


def test_every_image_is_seen_once_an_epoch(dataset):
    training = start(dataset, overrides={"epochs": 1, "augment": "none", "batch_size": 33})
    seen = []
    training.preprocess.register_forward_pre_hook(
        lambda module, inputs: seen.append(inputs[0]) if training.model.training else None
    )
    list(fit(training))
    sizes = [len(batch) for batch in seen]
    assert sum(sizes) == 100 and max(sizes) - min(sizes) <= 1
    assert {image.numpy().tobytes() for batch in seen for image in batch} == {
        image.tobytes() for image in training.train.images
    }


def test_a_loss_that_is_not_finite_stops_with_advice(dataset):
    training = start(dataset, "mlp", overrides={"lr": 1e30, "optimizer": "sgd"})
    with pytest.raises(PipelineError, match=r"The loss of mlp became (nan|inf) in epoch \d+: try a smaller lr"):
        list(fit(training))


@pytest.mark.parametrize("name", ["cnn", "mobilenet_v2"])
def test_cached_features_give_the_same_result_as_computing_them_anew(dataset, monkeypatch, name):
    overrides = {"freeze": "features", "precision": "fp32", "epochs": 4}
    cached = start(dataset, name, overrides=overrides)
    assert isinstance(batches.create_batches(cached), batches.CachedFeatures)
    list(fit(cached))
    fresh = start(dataset, name, overrides=overrides)
    monkeypatch.setattr(loop, "create_batches", batches.DeviceBatches)
    list(fit(fresh))
    for a, b in zip(cached.history, fresh.history, strict=True):
        assert a.metrics["train/loss"] == pytest.approx(b.metrics["train/loss"], abs=1e-4)
        assert a.metrics["val/loss"] == pytest.approx(b.metrics["val/loss"], abs=1e-4)
        assert a.metrics["val/accuracy"] == b.metrics["val/accuracy"]
    for one, other in zip(cached.model.parameters(), fresh.model.parameters(), strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_features_that_do_not_fit_in_memory_go_to_a_mapped_file(dataset, monkeypatch):
    overrides = {"freeze": "features", "precision": "fp32"}
    in_memory = start(dataset, overrides=overrides)
    list(fit(in_memory))
    monkeypatch.setattr(batches.psutil, "virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    mapped = start(dataset, overrides=overrides)
    feed = batches.create_batches(mapped)
    assert {path.name for path in Path(feed.folder.name).iterdir()} == {"train", "single"}
    list(fit(mapped))
    assert_equal(in_memory, mapped)


@pytest.mark.parametrize("name", ["cnn", "mobilenet_v2"])
def test_frozen_features_keep_weights_and_statistics(dataset, name):
    training = start(dataset, name, overrides={"freeze": "features"})
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    list(fit(training))
    changed = {key for key, value in training.model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed and all(key.startswith(f"{models.get(name).head}.") for key in changed)


def test_augmented_images_are_never_cached(dataset):
    training = start(dataset, overrides={"freeze": "features", "augment": "shift"})
    assert isinstance(batches.create_batches(training), batches.DeviceBatches)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("cnn", {"model_args": {"stride": 9}}, "cnn cannot be built with .*stride=9"),
        ("vit", {"overrides": {"image_size": 30}}, "30 is no multiple of patch_size 7"),
        ("vgg16", {"overrides": {"image_size": 28}}, "vgg16 cannot work on images of 28 x 28 px"),
        ("alexnet", {"overrides": {"image_size": 28}}, "alexnet cannot work on images of 28 x 28 px"),
        ("faster_rcnn", {"model_args": {"backbone": "vgg"}}, "there is no backbone 'vgg': choose residual"),
        ("faster_rcnn", {"task_args": {"canvas": 20}}, r"task_args canvas=20: sizes \(14, 32\) is no range"),
        ("faster_rcnn", {"task_args": {"scenes": 2}}, "scenes is a share from 0 to 1, not 2"),
        ("cnn", {"task_args": {"label_smoothing": 1.5}}, "label_smoothing is a share from 0 to 1"),
    ],
)
def test_what_cannot_be_built_is_found_before_training(dataset, name, options, says):
    options = {"overrides": {}} | options
    resolved = config.resolve(name, dataset, weights="none", val_size=20, device="cpu", **options)
    with pytest.raises(InputError, match=says):
        check_build(resolved, dataset)


@pytest.mark.parametrize("name", models.names())
def test_every_recipe_can_be_built(dataset, name):
    check_build(config.resolve(name, dataset, weights="none", overrides={}, device="cpu"), dataset)


@pytest.mark.parametrize("warmup", [0.2, 0.3])
@pytest.mark.parametrize("total", [10, 100, 777])
def test_schedule_is_the_one_cycle_of_torch(total, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=1.0, total_steps=total, pct_start=warmup, cycle_momentum=False
    )
    for step in range(total):
        assert optim.one_cycle(step, total=total, warmup=warmup) == pytest.approx(theirs.get_last_lr()[0], abs=1e-12)
        optimizer.step()
        if step < total - 1:
            theirs.step()


@pytest.mark.parametrize("total", range(1, 11))
def test_schedule_of_very_few_steps(total):
    rates = [optim.one_cycle(step, total=total, warmup=0.2) for step in range(total + 1)]
    assert all(0 < rate <= 1 for rate in rates[:total])


def test_a_model_that_explodes_in_the_last_step_is_no_result(dataset):
    training = start(dataset, "mlp", overrides={"epochs": 1, "batch_size": 100})
    training.optimizer.step = lambda: training.model.head[1].weight.data.fill_(float("nan"))
    with pytest.raises(PipelineError, match="The loss of mlp became nan in epoch 1"):
        list(fit(training))


def test_any_image_size_any_shape_any_number_of_classes(tmp_path):
    random = np.random.default_rng(0)
    part = ImageSet(random.integers(0, 256, (60, 40, 17), dtype=np.uint8), np.arange(60) % 3, ("a", "b", "c"))
    dataset = Dataset("odd", "made", part, part)
    training = start(dataset, "vit", overrides={"epochs": 1})
    list(fit(training))
    assert predict_images(training, part.images).shape == (60, 3)


def test_weights_start_a_training(dataset):
    first = start(dataset)
    list(fit(first))
    second = start(dataset, state=first.model.state_dict(), weights="file")
    assert all(torch.equal(second.model.state_dict()[k], v) for k, v in first.model.state_dict().items())


def test_config_is_what_is_trained(dataset):
    training = start(dataset, overrides={"optimizer": "sgd", "weight_decay": 0.123, "lr": 0.01})
    assert isinstance(training.optimizer, torch.optim.SGD)
    assert {group["weight_decay"] for group in training.optimizer.param_groups} == {0.123, 0.0}
    assert replace(training.config, lr=1.0).key != training.config.key


@pytest.mark.parametrize("shape", [(5, 5), (6, 40), (40, 6)])
def test_muon_makes_all_directions_of_a_step_about_equally_long(shape):
    # Of one shape and very different lengths, which are done together.
    matrices = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0)) * torch.tensor([[[1e-3]], [[1e3]]])
    for matrix, stepped in zip(matrices, orthogonalize(matrices), strict=True):
        lengths = torch.linalg.svdvals(stepped)
        assert lengths.min() > 0.3 and lengths.max() < 1.6
        # In the directions that the matrix has: its product with them is symmetric and positive.
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        assert torch.trace(u.T @ stepped @ v.T) / min(shape) > 0.6


def test_muon_with_nothing_but_a_last_layer_to_train_steps_that(dataset):
    training = start(dataset, "vit", overrides={"freeze": "features", "epochs": 1}, limit=40)
    head = training.model.get_parameter("head.weight")
    head.requires_grad_()
    for parameter in training.model.parameters():
        parameter.requires_grad = parameter is head
    training.optimizer = optim.create_optimizer(training.config, training.model)
    head.grad = torch.ones_like(head)
    before = head.clone()
    training.optimizer.step()
    assert not torch.equal(head, before)


def test_muon_steps_inner_layers_and_adamw_the_rest(dataset):
    training = start(dataset, "mobilenet_v2", overrides={"optimizer": "muon", "lr": 0.01}, limit=40)
    *others, inner = training.optimizer.param_groups
    everything = [p for group in training.optimizer.param_groups for p in group["params"]]
    assert len(set(everything)) == len(everything) == len(list(training.model.parameters()))
    assert {p.ndim for p in others[1]["params"]} == {1}
    # The first layer, the last, and convolutions of single channels.
    assert {tuple(p.shape) for p in others[0]["params"] if p.shape[1] != 1} == {(32, 3, 3, 3), (10, 1280)}
    assert all(p.shape[1] > 1 for p in inner["params"])
    before = [p.clone() for p in everything]
    list(fit(training))
    assert not any(torch.equal(old, new) for old, new in zip(before, everything, strict=True))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU for CUDA")
@pytest.mark.parametrize("name", ["mlp", "cnn", "vit", "alexnet"])
def test_recorded_steps_are_those_done_one_by_one(dataset, name, monkeypatch):
    def trained() -> Training:
        training = start(dataset, name, device="cuda")
        list(fit(training))
        return training

    recorded = trained()
    monkeypatch.setattr(gradients, "WARM_UP", 10**9)
    one_by_one = trained()
    losses = [[epoch.metrics["train/loss"] for epoch in training.history] for training in (recorded, one_by_one)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)


def test_images_stay_beside_a_gpu_that_has_no_room_for_them(monkeypatch):
    monkeypatch.setattr(batches, "free_memory", lambda device: 1000)
    assert batches.resident(np.zeros((10, 10, 10), np.uint8), torch.device("cuda")).device.type == "cpu"
    assert batches.has_room(torch.device("cuda"), 499) and not batches.has_room(torch.device("cuda"), 500)
