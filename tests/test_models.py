"""Every architecture in the registry keeps the same promises."""

import ast

import pytest
import torch

import models
from pipeline.engine import load_weights
from pipeline.errors import InputError

CLASSES = 10


def fresh(name: str) -> tuple[models.Architecture, torch.nn.Module, torch.Tensor]:
    """An architecture, a module from its own recipe with fixed weights, and eight inputs."""
    torch.manual_seed(0)
    chosen = models.get(name)
    recipe = chosen.recipe
    module = create(chosen, recipe, num_classes=CLASSES)
    return chosen, module, torch.randn(8, recipe.in_channels, recipe.image_size, recipe.image_size)


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
    assert {"mlp", "cnn", "vit", "alexnet", "vgg16", "mobilenet_v2"} <= set(models.names())


@every_architecture
def test_forward_is_the_head_on_the_features_and_gives_a_logit_a_class(name):
    _, module, inputs = fresh(name)
    module.eval()
    with torch.no_grad():
        logits = module(inputs)
        assert logits.shape == (8, CLASSES)
        assert torch.equal(module.forward_head(module.forward_features(inputs)), logits)


@every_architecture
def test_a_step_reaches_every_parameter(name):
    _, module, inputs = fresh(name)
    torch.nn.functional.cross_entropy(module(inputs), torch.arange(8)).backward()
    without = [name for name, parameter in module.named_parameters() if parameter.grad is None]
    assert not without


@every_architecture
def test_overfits_eight_images(name):
    chosen, module, inputs = fresh(name)
    optimizer = torch.optim.Adam(module.parameters(), lr=min(chosen.recipe.lr, 1e-3))
    for _ in range(60):
        loss = torch.nn.functional.cross_entropy(module(inputs), torch.arange(8))
        if loss < 0.1:
            break
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    assert loss < 0.1


@every_architecture
def test_head_names_a_submodule_and_takes_another_number_of_classes(name):
    chosen, module, _ = fresh(name)
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
    chosen, module, _ = fresh(name)
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
    with torch.device("meta"):
        ours = create(chosen, recipe, num_classes=1000)
        theirs = torch_model(name)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}


def torch_model(name: str) -> torch.nn.Module:
    import torchvision

    return torchvision.models.get_model(name, weights=None)


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(KeyError, match="did you mean 'mobilenet_v2'"):
        models.get("mobilenet")


def test_a_file_that_lacks_something_is_named(tmp_path, monkeypatch):
    file = tmp_path / "wide.py"
    file.write_text("TASK = 'classification'\nHEAD = 'head'\nRECIPE = {'lr': 1}\nbuild = None\n")
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.setattr(models, "names", lambda: ["wide"])
    with pytest.raises(TypeError, match=r"models/wide.py: RECIPE lacks .*epochs"):
        models.get("wide")
