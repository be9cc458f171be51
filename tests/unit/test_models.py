"""Every architecture in the registry keeps the same promises."""

import ast
import re
import sys
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch

import models
from pipeline import config
from pipeline.errors import InputError
from pipeline.evaluation import task
from pipeline.registry.bundled.preprocess import Preprocess
from pipeline.training.engine.state import load_weights

CLASSES = tuple("0123456789")
LABELS = torch.arange(8)


def fresh(name: str) -> tuple[models.Architecture, torch.nn.Module, torch.Tensor]:
    """An architecture, a module from its own recipe with fixed weights, and the inputs of eight digits-like images."""
    torch.manual_seed(0)
    chosen = models.get(name)
    recipe = chosen.recipe
    module = create(chosen, recipe, num_classes=len(CLASSES))
    images = torch.zeros(8, 28, 28)
    for image, label in zip(images, LABELS, strict=True):
        top, left = torch.randint(2, 12, (2,)).tolist()
        image[top : top + 14, left : left + 12] = torch.randint(64, 256, (14, 12))
        image[top + label : top + label + 4, left : left + 12] = 255
    parts = {field: getattr(recipe, field) for field in ("image_size", "in_channels", "mean", "std")}
    return chosen, module, images, Preprocess(**parts)(images)


def learned(chosen: models.Architecture) -> task.Task:
    """What the architecture is trained for, in its plainest form: hard targets, single images."""
    return task.create(chosen.task, classes=CLASSES, task_args={"scenes": 0.0} if chosen.task == "detection" else {})


def create(chosen: models.Architecture, recipe: models.Recipe, *, num_classes: int) -> torch.nn.Module:
    """The architecture as a recipe asks for it."""
    arguments = chosen.build_arguments(
        num_classes=num_classes,
        in_channels=recipe.in_channels,
        image_size=recipe.image_size,
        model_args=recipe.model_args,
    )
    return chosen.build(**arguments)


every_architecture = pytest.mark.parametrize("name", models.names())


def test_the_architectures_that_stay_are_there():
    assert {"mlp", "cnn", "vit", "alexnet", "vgg16", "mobilenet_v2", "faster_rcnn"} <= set(models.names())


@every_architecture
def test_forward_is_the_head_on_the_features_and_gives_one_row_an_image(name):
    chosen, module, _, inputs = fresh(name)
    module.eval()
    with torch.no_grad():
        answers = module(inputs)
        assert answers.shape == {"classification": (8, len(CLASSES)), "detection": (8, 100, 6)}[chosen.task]
        assert torch.equal(module.forward_head(module.forward_features(inputs)), answers)


@every_architecture
def test_a_step_reaches_every_parameter(name):
    chosen, module, images, inputs = fresh(name)
    _, targets = learned(chosen).batch(images, LABELS, torch.Generator())
    learned(chosen).loss(module, inputs, targets)["loss"].backward()
    without = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert not without


@every_architecture
def test_overfits_eight_images(name):
    chosen, module, images, inputs = fresh(name)
    what = learned(chosen)
    _, targets = what.batch(images, LABELS, torch.Generator())
    optimizer = torch.optim.Adam(module.parameters(), lr=min(chosen.recipe.lr, 1e-3))
    before = what.loss(module, inputs, targets)["loss"].item()
    for _ in range(60):
        loss = what.loss(module, inputs, targets)["loss"]
        if loss < before / 10:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss <= before / 10


@every_architecture
def test_head_names_a_submodule_and_takes_another_number_of_classes(name):
    chosen, module, *_ = fresh(name)
    other = create(chosen, chosen.recipe, num_classes=7)
    load_weights(other, module.state_dict(), head=chosen.head)
    own, loaded = dict(module.named_parameters()), dict(other.named_parameters())
    assert any(
        parameter.shape != own[name].shape
        for name, parameter in other.get_submodule(chosen.head).named_parameters(chosen.head)
    )
    assert all(torch.equal(loaded[name], own[name]) for name in own if not name.startswith(f"{chosen.head}."))


@every_architecture
def test_weights_of_another_architecture_are_refused(name):
    chosen, module, *_ = fresh(name)
    with pytest.raises(InputError, match="do not fit the architecture"):
        load_weights(module, {"stranger": torch.zeros(1)}, head=chosen.head)


@every_architecture
def test_a_file_imports_torch_and_torchvision_and_nothing_of_this_project(name):
    tree = ast.parse(models.get(name).file.read_text())
    imported = {
        alias.name if isinstance(node, ast.Import) else node.module
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert {module.split(".")[0] for module in imported} <= {"torch", "torchvision", "itertools", "math"}


@every_architecture
def test_pretrained_recipe_builds_what_the_published_weights_fit(name):
    chosen = models.get(name)
    if chosen.weights is None:
        pytest.skip(f"torchvision publishes no weights for {name}")
    recipe = chosen.recipe_for(pretrained=True)
    several = isinstance(chosen.weights, Mapping)
    for backbone in chosen.weights if several else [None]:
        arguments = {"backbone": backbone} if several else {}
        published = chosen.published(arguments)
        # A detector's categories begin with the background, which is no class of its own here.
        classes = len(published.meta["categories"]) - (chosen.task == "detection")
        adapted = replace(recipe, model_args={**recipe.model_args, **arguments})
        with torch.device("meta"):
            ours = create(chosen, adapted, num_classes=classes).state_dict()
            theirs = published_model(name, backbone).state_dict()
        assert {k: v.shape for k, v in ours.items()}.items() <= {k: v.shape for k, v in theirs.items()}.items()
        counters = {name for name in theirs if name.endswith("num_batches_tracked")}
        assert set(theirs) - set(ours) <= counters, "frozen normalisations do not count"


def published_model(name: str, backbone: str | None) -> torch.nn.Module:
    import torchvision

    if backbone:
        return getattr(torchvision.models.detection, f"fasterrcnn_{backbone}")(weights=None, weights_backbone=None)
    return torchvision.models.get_model(name, weights=None)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(KeyError, match="there are alexnet, cnn"):
        models.get("mobilenet")


def test_a_file_that_lacks_something_is_named(tmp_path, monkeypatch):
    file = tmp_path / "wide.py"
    file.write_text("TASK = 'classification'\nHEAD = 'head'\nRECIPE = {'lr': 1}\nbuild = None\n")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.setattr(models, "names", lambda: ["wide"])
    with pytest.raises(TypeError, match=r"models/wide.py: RECIPE lacks .*epochs"):
        models.get("wide")


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("augment", "blur", "has augment 'blur': choose one of none, shift, affine"),
        ("optimizer", "lion", "has optimizer 'lion'"),
        ("freeze", "all", "has freeze 'all'"),
        ("precision", {"cpu": "fp64", "cuda": "fp32", "mps": "fp32"}, "has precision 'fp64'"),
        ("precision", {"cpu": "fp32"}, "has no precision for cuda, mps"),
    ],
)
def test_a_recipe_with_an_unknown_value_is_refused_when_it_is_read(tmp_path, monkeypatch, field, value, says):
    recipe = {**models.get("mlp").recipe.__dict__, field: value}
    (tmp_path / "odd.py").write_text(f"TASK = 'classification'\nHEAD = 'head'\nRECIPE = {recipe!r}\nbuild = None\n")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.setattr(models, "names", lambda: ["odd"])
    monkeypatch.delitem(sys.modules, "models.odd", raising=False)
    models.get.cache_clear()
    with pytest.raises(TypeError, match=re.escape(says)):
        models.get("odd")
    with pytest.raises(InputError, match=re.escape(says)):
        config.architecture("odd")
