"""Options that several commands share, and their types."""

import math
import re
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any, get_args

import click

import models
from pipeline.files import ROOT_VARIABLE, default_root

WEIGHTS = "imagenet, none, a weights file, or a registered model models:/NAME@ALIAS; auto: imagenet where published"


class Auto(click.ParamType):
    """A value of another type, or `auto`, which stands for None: the recipe's or the machine's choice."""

    def __init__(self, inner: Any) -> None:
        self.inner = click.types.convert_type(inner)
        self.name = self.inner.name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        if isinstance(self.inner, click.Choice):
            return f"[auto|{'|'.join(self.inner.choices)}]"
        if isinstance(self.inner, (click.IntRange, click.FloatRange)):
            upper = "" if self.inner.max is None else f"<={self.inner.max}"
            return f"[auto|{self.inner.min}{'<' if self.inner.min_open else '<='}x{upper}]"
        return f"[auto|{self.name}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else self.inner.convert(value, param, ctx)


def options(*decorators: Callable) -> Callable:
    """Several click options as one decorator, in the order they are given."""
    return lambda command: reduce(lambda wrapped, decorator: decorator(wrapped), reversed(decorators), command)


def auto(name: str, kind: Any, text: str) -> Callable:
    """An option whose default leaves the choice to the recipe or the machine."""
    return click.option(name, type=Auto(kind), default="auto", show_default=True, help=text)


def switch(name: str, text: str, *earlier: str) -> Callable:
    """An option that is either on or off, also when the launcher gives it a value: -P resume=true.

    Args:
        earlier: names that it had before, under which it is still understood.
    """
    return click.option(
        name, *earlier, type=bool, is_flag=False, flag_value=True, default=False, show_default=True, help=text
    )


class LocalPath(click.ParamType):
    """A file or folder, as a whole path: what is said of it later can be copied to wherever one is."""

    name = "path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return Path(value).expanduser().absolute()


class Finite(click.FloatRange):
    """A number in a range, and neither infinite nor what is no number."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is no finite number.", param, ctx)
        return number


class Numbers(click.ParamType):
    """Whole numbers separated by commas, each once."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        if not all(part.isdecimal() for part in split_names(value)):
            self.fail(f"'{value}' is no list of numbers: write 100,1000,0.", param, ctx)
        return tuple(dict.fromkeys(map(int, split_names(value))))


class Duration(click.ParamType):
    """A time such as 10m as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if not match:
            self.fail(f"'{value}' is no time: write 30s, 10m or 2h.", param, ctx)
        return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[match[2]]


wait_option = click.option(
    "--wait",
    type=Duration(),
    default="10m",
    show_default=True,
    help="How long to wait in the end for a tracking server that is away.",
)
root_option = click.option(
    "--root",
    type=LocalPath(),
    default=default_root,
    show_default=f"the user's cache folder, or ${ROOT_VARIABLE}",
    help="Folder for downloads, manifests and checkpoints.",
)
# What the results of trainings are called, and where they go.
naming_options = options(
    click.option(
        "--name",
        default="",
        help="What the data set is called in runs and registered models; its own name by default.",
    ),
    click.option(
        "--register", type=bool, default=True, show_default=True, help="Whether models get a version in the registry."
    ),
)
# What every architecture understands; where not set, the recipe in its file decides.
recipe_options = options(
    auto("--epochs", click.IntRange(1, 10_000), "Passes over the training images."),
    auto("--batch-size", click.IntRange(2, 65_536), "Images a step."),
    auto("--lr", Finite(0, 100, min_open=True), "Largest learning rate of the one-cycle schedule."),
    auto("--optimizer", click.Choice(get_args(models.Optimizer)), "Optimizer."),
    auto("--weight-decay", Finite(0, 10), "Weight decay."),
    auto("--image-size", click.IntRange(8, 1024), "Side in pixels that images are resized to."),
    auto("--augment", click.Choice(get_args(models.Augmentation)), "Random changes of the training images."),
    auto("--precision", click.Choice(get_args(models.Precision)), "Precision of the products while training."),
    auto(
        "--freeze", click.Choice(get_args(models.Freeze)), "Layers that do not train; auto freezes loaded weights only."
    ),
    auto("--val-size", click.IntRange(2), "Images held out to choose the epoch; auto: a twelfth of the training file."),
    auto("--device", click.Choice(get_args(models.Device)), "Where to compute; auto: a GPU where there is one."),
    click.option(
        "--limit", type=click.IntRange(0), default=0, show_default=True, help="Train on so many images; 0: on all."
    ),
)
recipes_option = click.option(
    "--recipe",
    "--recipes",
    "recipes",
    default="",
    help="Recipes that tune found: files or runs:/ID/recipe.json, separated by commas; tuned: the newest of each "
    "architecture on this data.",
)
trust_option = click.option(
    "--trust",
    default="configured",
    show_default=True,
    help="Registries and folders whose models' code may run, separated by commas.",
)
model_uri_option = options(
    click.option("--model-uri", required=True, help="A registered model: models:/NAME@ALIAS or models:/NAME/VERSION."),
    trust_option,
)


def split_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for `config.resolve`: what the user set of the recipe goes into `overrides`."""
    others = {name: choices[name] for name in ("limit", "val_size", "device")}
    return {"overrides": {k: v for k, v in choices.items() if k not in others and v is not None}, **others}


def chosen(choices: Mapping[str, Any]) -> dict[str, Any]:
    """What the user set of the same options, by which one's runs are told apart."""
    return {name: value for name, value in choices.items() if value not in (None, 0)}


def named_architectures(names: str) -> list[str]:
    """The architectures of a list separated by commas, or all, before any is imported.

    Raises:
        InputError: there is no such architecture.
    """
    from pipeline import config

    found = list(models.names()) if names == "all" else list(split_names(names))
    for name in found:
        config.check_name(name)
    return found


def split_names(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]
