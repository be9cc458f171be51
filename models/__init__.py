"""Registry of the architectures: one file in this folder, one architecture of the same name.

`models` means architectures here, that is code; trained models live in the MLflow registry. A file defines

    TASK        what it is trained for: "classification" or "detection"
    RECIPE      mapping with every field of `Recipe`: how it is fed and trained from scratch
    PRETRAINED  mapping of the fields that differ when pretrained weights are loaded (optional)
    WEIGHTS     the torchvision weights that `--weights imagenet` loads, or a mapping to them from the values of the
                argument `backbone` (optional)
    SEARCH      mapping from what `tune` may change to the values it tries (optional): a field of `SEARCHED`, or
                `model_args.NAME` or `task_args.NAME`, to {"low": ..., "high": ...} with or without "log": True, or to
                {"choices": (...)}; the recipe's own value is always one of them
    HEAD        name of the submodule whose last layer depends on the number of classes
    build       class or function returning the module; keyword arguments only, among them
                `num_classes`, `in_channels` and `image_size` as far as it depends on them

and the module offers `forward_features(x)` and `forward_head(z)`, whose composition is `forward`: logits for
classification, losses and boxes for detection as `faster_rcnn.py` describes them. It imports torch and torchvision and
nothing of this project, so that a registered model can carry a copy of that one file.
"""

import ast
import hashlib
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args, get_origin, get_type_hints

# What the pipeline passes to `build`, as far as `build` takes it; everything else in its signature is the user's.
SUPPLIED = ("num_classes", "in_channels", "image_size")
# The fields of a recipe that a search may change. All others decide what one training costs, which is the same for all.
SEARCHED = ("optimizer", "lr", "weight_decay", "warmup", "batch_size", "clip_norm", "augment")


Optimizer = Literal["adam", "adamw", "muon", "sgd"]
Augmentation = Literal["none", "shift", "affine"]
Freeze = Literal["none", "features"]
Device = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16", "fp16"]


class InvalidArchitecture(TypeError):
    """An architecture's file that does not define what the registry asks for; the text names file and field."""


@dataclass(frozen=True)
class Recipe:
    """How one architecture likes to be fed and trained.

    Attributes:
        image_size: side of the square input in pixels; 0: images as they are.
        in_channels: 1 for grey, 3 for grey repeated as RGB.
        mean, std: normalisation of an input in [0, 1], one value a channel.
        model_args: keyword arguments of `build`.
        task_args: keyword arguments of the task.
        optimizer: adam, adamw, muon or sgd.
        lr: largest learning rate of the one-cycle schedule.
        warmup: share of the steps in which the learning rate rises.
        batch_size: images a step.
        epochs: passes over the training images, for a set of MNIST's size.
        min_steps: optimizer steps below which `epochs` is raised: a small set needs more passes.
        clip_norm: largest norm of the gradient, 0 for no limit.
        augment: none, shift or affine.
        freeze: none or features, applied when weights are loaded.
        precision: fp32 or bf16 for each device type; a GPU without bf16 uses fp16 in its place.
    """

    image_size: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    model_args: Mapping[str, Any]
    task_args: Mapping[str, Any]
    optimizer: Optimizer
    lr: float
    weight_decay: float
    warmup: float
    batch_size: int
    epochs: int
    min_steps: int
    clip_norm: float
    augment: Augmentation
    freeze: Freeze
    precision: Mapping[Device, Precision]


@dataclass(frozen=True)
class Architecture:
    """One architecture: its name, its source file and what that file defines."""

    name: str
    file: Path
    task: str
    build: Callable[..., Any]
    head: str
    recipe: Recipe
    pretrained: Mapping[str, Any]
    weights: Any | None
    search: Mapping[str, Mapping[str, Any]]

    @property
    def sha256(self) -> str:
        """Hash of the source file but for SEARCH, which decides no training: another one leaves all what they are."""
        source = self.file.read_bytes()
        lines = source.splitlines(keepends=True)
        for node in ast.parse(source).body:
            if isinstance(node, ast.Assign) and "SEARCH" in [getattr(target, "id", "") for target in node.targets]:
                del lines[node.lineno - 1 : node.end_lineno]
        return hashlib.sha256(b"".join(lines)).hexdigest()

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor arguments a user may set, with their defaults."""
        parameters = inspect.signature(self.build).parameters
        return {name: p.default for name, p in parameters.items() if name not in SUPPLIED}

    def published(self, model_args: Mapping[str, Any]) -> Any | None:
        """The torchvision weights that fit these arguments of the user, if there are any."""
        if isinstance(self.weights, Mapping):
            arguments = {**self.arguments, **self.recipe_for(pretrained=True).model_args, **model_args}
            return self.weights.get(str(arguments["backbone"]))
        return self.weights

    def recipe_for(self, *, pretrained: bool) -> Recipe:
        """The recipe from scratch, or the one for fine-tuning loaded weights."""
        return replace(self.recipe, **self.pretrained) if pretrained else self.recipe

    def own_value(self, field: str, recipe: Any) -> Any:
        """What a recipe, or a config made of one, has for a field as SEARCH names it; None for a task's own default."""
        group, _, name = field.rpartition(".")
        if group == "model_args":
            return {**self.arguments, **recipe.model_args}[name]
        return recipe.task_args.get(name) if group else getattr(recipe, field)

    def build_arguments(
        self, *, num_classes: int, in_channels: int, image_size: int, model_args: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Keyword arguments of `build`: what depends on data and recipe, as far as it takes it, and the user's."""
        supplied = {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}
        taken = inspect.signature(self.build).parameters
        return {**{name: value for name, value in supplied.items() if name in taken}, **model_args}


def names() -> list[str]:
    """Names of all architectures, read from the folder alone: no architecture is imported."""
    return sorted(file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith("_"))


@cache
def get(name: str) -> Architecture:
    """Import and validate one architecture.

    Raises:
        KeyError: there is no such file.
        InvalidArchitecture: the file does not define what the registry asks for.
    """
    if name not in names():
        raise KeyError(f"There is no architecture '{name}': there are {', '.join(names())}.")
    return _validated(name, importlib.import_module(f"{__name__}.{name}"))


def _validated(name: str, module: ModuleType) -> Architecture:
    missing = [attribute for attribute in ("TASK", "RECIPE", "HEAD", "build") if not hasattr(module, attribute)]
    if missing:
        raise InvalidArchitecture(f"models/{name}.py does not define {', '.join(missing)}.")
    pretrained = getattr(module, "PRETRAINED", {})
    known = {field.name for field in fields(Recipe)}
    if unknown := (set(module.RECIPE) | set(pretrained)) - known:
        raise InvalidArchitecture(f"models/{name}.py: the recipe has unknown fields {', '.join(sorted(unknown))}.")
    if absent := known - set(module.RECIPE):
        raise InvalidArchitecture(f"models/{name}.py: RECIPE lacks {', '.join(sorted(absent))}.")
    for mapping, values in (("RECIPE", module.RECIPE), ("PRETRAINED", pretrained)):
        check_choices(f"models/{name}.py: {mapping}", values)
    found = Architecture(
        name=name,
        file=Path(str(module.__file__)),
        task=module.TASK,
        build=module.build,
        head=module.HEAD,
        recipe=Recipe(**module.RECIPE),
        pretrained=pretrained,
        weights=getattr(module, "WEIGHTS", None),
        search=getattr(module, "SEARCH", {}),
    )
    for field, values in found.search.items():
        _check_searched(f"models/{name}.py: SEARCH has {field}", found, field, values)
    return found


def check_choices(place: str, values: Mapping[str, Any]) -> None:
    """Refuse a value outside the closed set of its field, which would otherwise silently mean something else."""
    for field, kind in get_type_hints(Recipe).items():
        if field not in values:
            continue
        if get_origin(kind) is Literal:
            given = [(values[field], kind)]
        elif field == "precision":
            given = [(device, Device) for device in values[field]] + [(p, Precision) for p in values[field].values()]
            if absent := [device for device in get_args(Device) if device not in values[field]]:
                raise InvalidArchitecture(f"{place} has no precision for {', '.join(absent)}.")
        else:
            continue
        for value, choices in given:
            if value not in get_args(choices):
                raise InvalidArchitecture(
                    f"{place} has {field} '{value}': choose one of {', '.join(get_args(choices))}."
                )


def _check_searched(place: str, architecture: Architecture, field: str, values: Mapping[str, Any]) -> None:
    """Refuse what no search could try, or values without the recipe's own, with which every search begins."""
    arguments = [f"model_args.{name}" for name in architecture.arguments]
    known = [*SEARCHED, *arguments, *(f"task_args.{name}" for name in architecture.recipe.task_args)]
    if field not in known:
        raise InvalidArchitecture(f"{place}, which is none of {', '.join(known)}.")
    if set(values) not in ({"choices"}, {"low", "high"}, {"low", "high", "log"}):
        raise InvalidArchitecture(f'{place}: write it as {{"low": ..., "high": ...}} or {{"choices": (...)}}.')
    if "choices" in values:
        plain = all(isinstance(value, (str, int, float)) for value in values["choices"])
        if len(values["choices"]) < 2 or not plain:
            raise InvalidArchitecture(f"{place}: give at least two choices, each a text or a number.")
    else:
        low, high = values["low"], values["high"]
        if not all(isinstance(value, (int, float)) for value in (low, high)) or low >= high:
            raise InvalidArchitecture(f"{place} from {low} to {high}: give two numbers, the smaller first.")
        if values.get("log") and low <= 0:
            raise InvalidArchitecture(f"{place} from {low} on a logarithmic scale, which begins above 0.")
    for recipe in (architecture.recipe, architecture.recipe_for(pretrained=True)):
        own = architecture.own_value(field, recipe)
        number = isinstance(own, (int, float))
        there = own in values["choices"] if "choices" in values else number and values["low"] <= own <= values["high"]
        if own is not None and not there:
            raise InvalidArchitecture(f"{place} without {own!r}, the recipe's own value, which a search begins with.")
    for value in values.get("choices", ()):
        check_choices(place, {field: value})
