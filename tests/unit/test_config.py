"""A recipe and what the user asks for become one plain config, or one sentence."""

from dataclasses import replace

import pytest

import models
from pipeline import config
from pipeline.data import sources
from pipeline.errors import InputError


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return sources.load("digits", tmp_path_factory.mktemp("root"))


def resolve(name, dataset, *, weights="none", overrides=None, **options):
    return config.resolve(name, dataset, weights=weights, overrides=overrides or {}, device="cpu", **options)


@pytest.mark.parametrize("name", models.names())
def test_the_recipe_decides_what_the_user_leaves_open(digits, name):
    recipe, resolved = models.get(name).recipe, resolve(name, digits)
    assert (resolved.lr, resolved.batch_size, resolved.image_size) == (recipe.lr, recipe.batch_size, recipe.image_size)
    assert resolved.val_size == 1437 // 12 and resolved.freeze == "none"
    steps = resolved.epochs * -(-1318 // resolved.batch_size)
    assert resolved.epochs >= recipe.epochs and steps >= recipe.min_steps


def test_the_user_overrides_the_recipe(digits):
    resolved = resolve("cnn", digits, overrides={"epochs": 2, "lr": 0.5, "augment": "none", "precision": "fp32"})
    assert (resolved.epochs, resolved.lr, resolved.augment, resolved.precision) == (2, 0.5, "none", "fp32")


@pytest.mark.parametrize(
    ("device", "has_bf16", "used"),
    [("cpu", True, "bf16"), ("cpu", False, "fp32"), ("cuda", True, "bf16"), ("cuda", False, "fp16")],
)
def test_precision_is_what_the_device_has(monkeypatch, device, has_bf16, used):
    monkeypatch.setattr(config, "has_bf16", lambda _: has_bf16)
    assert config.usable_precision("bf16", device) == used
    assert config.usable_precision("fp32", device) == "fp32"


def test_freezing_follows_the_recipe_only_when_weights_are_loaded(digits):
    assert resolve("mobilenet_v2", digits, weights="imagenet").freeze == "features"
    assert resolve("mobilenet_v2", digits, weights="none").freeze == "none"
    assert resolve("mobilenet_v2", digits, weights="imagenet", overrides={"freeze": "none"}).freeze == "none"
    assert resolve("alexnet", digits, weights="imagenet").freeze == "none"
    frozen = resolve("alexnet", digits, weights="imagenet", overrides={"freeze": "features"})
    assert frozen.augment == "none", "frozen features are computed once, so the images must stay the same"


def test_weights_default_to_what_is_published():
    assert config.resolve_weights("alexnet", None, {}) == "imagenet"
    assert config.resolve_weights("cnn", None, {}) == "none"
    assert config.resolve_weights("faster_rcnn", None, {"backbone": "resnet50_fpn"}) == "imagenet"
    assert config.resolve_weights("faster_rcnn", None, {"backbone": "residual"}) == "none"
    with pytest.raises(InputError, match="no published weights for cnn"):
        config.resolve_weights("cnn", "imagenet", {})


def test_key_depends_on_every_field_and_on_nothing_else(digits):
    first = resolve("cnn", digits)
    assert first.key == resolve("cnn", digits).key
    assert len({first.key, resolve("cnn", digits, seed=1).key, resolve("cnn", digits, limit=500).key}) == 3
    folded = replace(first, fold="1/5")
    assert set(folded.params()) == set(config.TrainConfig.__dataclass_fields__) and folded.key != first.key
    assert set(first.params()) == set(folded.params()) - {"fold"}, "trainings of before are the same as ever"


@pytest.mark.parametrize("val_size", [1437, 2000])
def test_validation_must_leave_something_to_train_on(digits, val_size):
    with pytest.raises(InputError, match="leaves no image of the 1,437"):
        resolve("cnn", digits, val_size=val_size)


def test_device_that_is_not_there():
    import torch

    if torch.backends.mps.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(InputError, match="There is no device 'mps' here"):
        config.resolve_device("mps")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"kernelsize": 3}, "did you mean 'kernel_size'"),
        ({"image_size": 32}, "is no model argument"),
        ({"kernel_size": 3.5}, "is of type int"),
        ({"dropout": "much"}, "is of type float"),
        ({"kernel_size": True}, "is of type int"),
    ],
)
def test_model_args_that_do_not_fit_the_constructor(digits, arguments, says):
    with pytest.raises(InputError, match=says):
        resolve("cnn", digits, model_args=arguments)


def test_a_whole_number_is_good_for_a_fraction(digits):
    assert resolve("cnn", digits, model_args={"dropout": 0}).model_args == {"dropout": 0}
