"""What one training does: the architecture's recipe, the user's overrides and the seed, resolved into plain values."""

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import models
from pipeline.data.images import Dataset
from pipeline.data.splits import default_val_size
from pipeline.errors import InputError
from pipeline.names import did_you_mean, short_hash

PUBLISHED = "imagenet"
# To be counted up when the same config and seed give other losses: tests/unit/recorded_losses.json tells.
TRAINING_VERSION = 1


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a training turns out. Every field is logged as a param of the run.

    The fields up to `precision` are explained in `models.Recipe`; `weights` says where the model starts from, `limit`
    how many training images it sees (0: all), `val_size` how many of the training file choose the best epoch. Hashes
    stand for what a name alone does not fix: the images, the architecture's source, a weights file; a number stands
    for the arithmetic of the training loop.
    """

    dataset: str
    dataset_sha256: str
    model: str
    model_args: Mapping[str, Any]
    task: str
    task_args: Mapping[str, Any]
    weights: str
    freeze: str
    image_size: int
    in_channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    optimizer: str
    lr: float
    weight_decay: float
    warmup: float
    batch_size: int
    epochs: int
    clip_norm: float
    augment: str
    precision: str
    val_size: int
    limit: int
    seed: int
    device: str
    architecture_sha256: str
    weights_sha256: str = ""
    training_version: int = TRAINING_VERSION

    def params(self) -> dict[str, str]:
        """Every field as text, the way it is logged."""
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in asdict(self).items()}

    def build_arguments(self, *, num_classes: int) -> dict[str, Any]:
        """Keyword arguments that build this config's network, for the training as for whoever loads the result."""
        return models.get(self.model).build_arguments(
            num_classes=num_classes,
            in_channels=self.in_channels,
            image_size=self.image_size,
            model_args=self.model_args,
        )

    @property
    def key(self) -> str:
        """Short hash that two configs share only when every field is equal."""
        return short_hash(self.params())


def title(what: str, chosen: Mapping[str, Any], *, seed: int | None = None) -> str:
    """What a run is called, with what was chosen for it: `cnn kernel_size=5 seed 0`."""
    parts = [what, *(f"{name}={value}".replace(" ", "") for name, value in chosen.items())]
    return " ".join(parts if seed is None else [*parts, f"seed {seed}"])


def architecture(name: str) -> models.Architecture:
    """The architecture of this name.

    Raises:
        InputError: there is none, and the text suggests the nearest; or its file is incomplete.
    """
    check_name(name)
    try:
        return models.get(name)
    except models.InvalidArchitecture as error:
        raise InputError(str(error)) from error


def check_name(name: str) -> None:
    """Refuse what no architecture is called, before any is imported.

    Raises:
        InputError: the text suggests the nearest.
    """
    if name not in models.names():
        hint = did_you_mean(name, models.names(), otherwise=f"choose one of {', '.join(models.names())}.")
        raise InputError(f"There is no architecture '{name}': {hint}")


def check_source(source: str | None) -> None:
    """Refuse a file of weights that is not there; other sources are looked for where they are used.

    Raises:
        InputError: what else there is.
    """
    elsewhere = source in (None, "none", PUBLISHED) or str(source).startswith("models:/")
    if not elsewhere and not Path(str(source)).expanduser().is_file():
        raise InputError(
            f"There is no weights file '{source}': use weights=imagenet, none, a file or models:/NAME@ALIAS."
        )


def resolve_weights(name: str, source: str | None, model_args: Mapping[str, Any]) -> str:
    """Where the weights come from: as asked, or published ones where the architecture has them.

    Raises:
        InputError: published weights are asked for and there are none.
    """
    published = architecture(name).published(model_args)
    if source == PUBLISHED and not published:
        raise InputError(
            f"There are no published weights for {name} {'with these model_args' if model_args else ''}: "
            "use weights=none, a file or models:/NAME@ALIAS."
        )
    return source or (PUBLISHED if published else "none")


def resolve(
    name: str,
    dataset: Dataset,
    *,
    weights: str,
    overrides: Mapping[str, Any],
    seed: int = 0,
    limit: int = 0,
    val_size: int | None = None,
    device: str | None = None,
    model_args: Mapping[str, Any] | None = None,
    task_args: Mapping[str, Any] | None = None,
    stored: Mapping[str, Any] | None = None,
) -> TrainConfig:
    """Turn a recipe and what the user asked for into a config.

    Args:
        name: the architecture.
        weights: from `resolve_weights`.
        overrides: recipe fields set by the user; what is absent is the recipe's.
        stored: config values that come with the weights, as `weights.load` gives them.

    Raises:
        InputError: values that do not fit the architecture, the data or this machine.
    """
    # Only here, as torch below: reading results needs neither, and both take long to import.
    from pipeline.evaluation import task

    chosen = architecture(name)
    pretrained = weights != "none"
    recipe = {**asdict(chosen.recipe_for(pretrained=pretrained)), **(stored or {})}
    min_steps, precisions = recipe.pop("min_steps"), recipe.pop("precision")
    recipe["model_args"] = {**recipe["model_args"], **_checked(name, chosen.arguments, model_args or {})}
    recipe["task_args"] = {**recipe["task_args"], **_checked(chosen.task, task.arguments(chosen.task), task_args or {})}
    if not recipe["image_size"] and "image_size" in overrides:
        raise InputError(f"{name} takes images as they are: leave image_size out.")
    if not pretrained:
        recipe["freeze"] = "none"
    recipe |= overrides
    if recipe["freeze"] == "features" and "augment" not in overrides:
        # Frozen features are computed once, so every epoch sees the same images.
        recipe["augment"] = "none"
    device = resolve_device(device)
    val_size = default_val_size(dataset) if val_size is None else val_size
    images = len(dataset.train) - val_size
    images = min(limit, images) if limit else images
    if images < 1:
        raise InputError(f"val_size={val_size} leaves no image of the {len(dataset.train):,} to train on.")
    if "epochs" not in overrides:
        recipe["epochs"] = max(recipe["epochs"], math.ceil(min_steps / math.ceil(images / recipe["batch_size"])))
    if "precision" not in overrides:
        recipe["precision"] = usable_precision(precisions[device], device)
    return TrainConfig(
        dataset=dataset.name,
        dataset_sha256=dataset.sha256,
        model=name,
        task=chosen.task,
        weights=weights,
        val_size=val_size,
        limit=limit,
        seed=seed,
        device=device,
        architecture_sha256=chosen.sha256,
        **recipe,
    )


def resolve_device(device: str | None) -> str:
    """The device asked for, or the fastest there is.

    Raises:
        InputError: there is no such device.
    """
    import torch

    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    device = device or next(name for name, there in present.items() if there)
    if not present[device]:
        raise InputError(f"There is no device '{device}' here: use device=auto or device=cpu.")
    return device


def usable_precision(wanted: str, device: str) -> str:
    """The precision wanted where the device has it: older GPUs have matrix units for fp16, processors for neither."""
    if wanted != "bf16" or has_bf16(device):
        return wanted
    return "fp16" if device == "cuda" else "fp32"


def has_bf16(device: str) -> bool:
    """Whether the device computes in bfloat16 by itself; emulated it would only be slower."""
    import torch

    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    capabilities = torch.cpu.get_capabilities() if device == "cpu" else {}
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16", "bf16"))


def parse_arguments(text: str, *, option: str) -> dict[str, Any]:
    """Read `kernel_size=5,channels=(16,32)`: names with Python literals; a bare word is text.

    Raises:
        InputError: the text has another form.
    """
    try:
        call = ast.parse(f"dict({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            raise ValueError("it is no list of names with values")
        if None in [keyword.arg for keyword in call.keywords]:
            raise ValueError("a name is missing")
        return {
            str(keyword.arg): keyword.value.id
            if isinstance(keyword.value, ast.Name)
            else ast.literal_eval(keyword.value)
            for keyword in call.keywords
        }
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{option} '{text}' cannot be read: write it as kernel_size=5,dropout=0.3.") from error


def _checked(owner: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in given.items():
        if name in models.SUPPLIED:
            raise InputError(f"{name} is no model argument: the data or an option of its own sets it.")
        if name not in known:
            hint = did_you_mean(name, known, otherwise=f"there are {', '.join(known)}.")
            raise InputError(f"{owner} has no argument '{name}': {hint}")
        default = known[name]
        fits = isinstance(value, (int, float)) if isinstance(default, float) else isinstance(value, type(default))
        if default is not None and (not fits or isinstance(value, bool) is not isinstance(default, bool)):
            raise InputError(
                f"{owner}'s argument {name} is of type {type(default).__name__} (default {default!r}), not {value!r}."
            )
    return dict(given)
