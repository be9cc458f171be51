"""What one training does: the architecture's recipe, the user's overrides and the seed, resolved into plain values."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import models
from pipeline import arguments
from pipeline.data.images import Dataset
from pipeline.data.splits import default_val_size
from pipeline.errors import InputError
from pipeline.names import did_you_mean, short_hash

PUBLISHED = "imagenet"
# To be counted up when the same config and seed give another model: tests/unit/recorded_losses.json tells of losses.
TRAINING_VERSION = 2


@dataclass(frozen=True)
class TrainConfig:
    """Everything that decides how a training turns out. Every field is logged as a param of the run.

    The fields up to `precision` are explained in `models.Recipe`; `weights` says where the model starts from, `limit`
    how many training images it sees (0: all), `val_size` how many of the training file choose the best epoch, `fold`
    which, where they are a part of a cross-validation. Hashes stand for what a name alone does not fix: the images, the
    architecture's source, a weights file; a number stands for the arithmetic of the training loop.
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
    fold: str = ""

    def params(self) -> dict[str, str]:
        """Every field as text, the way it is logged; of a fold only where there is one."""
        fields = {name: value for name, value in asdict(self).items() if name != "fold" or value}
        return {name: value if isinstance(value, str) else json.dumps(value) for name, value in fields.items()}

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


def check_source(source: str | None, *names: str) -> None:
    """Refuse a file of weights that is not there, or published weights of an architecture that has none.

    Other sources are looked for where they are used.

    Args:
        names: the architectures, of which none is imported.

    Raises:
        InputError: what else there is.
    """
    if source == PUBLISHED:
        for name in names:
            if not arguments.has_published_weights(name):
                raise without_published_weights(name)
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
        raise without_published_weights(f"{name} with these model_args" if model_args else name)
    return source or (PUBLISHED if published else "none")


def without_published_weights(what: str) -> InputError:
    """What to say where published weights are asked for and there are none."""
    return InputError(f"There are no published weights for {what}: use weights=none, a file or models:/NAME@ALIAS.")


def start_in_words(source: str | None, *names: str) -> str:
    """How trainings start whose weights come from there, before any of the architectures is imported."""
    if source is None and any(map(arguments.has_published_weights, names)):
        return "from published weights" if len(names) == 1 else "from published weights where there are any"
    if source in ("none", None):
        return "from scratch"
    return f"from {'published weights' if source == PUBLISHED else source}"


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
    model_args, task_args = model_args or {}, task_args or {}
    arguments.check(name, chosen.arguments, model_args)
    arguments.check(chosen.task, task.arguments(chosen.task), task_args)
    recipe["model_args"] = {**recipe["model_args"], **model_args}
    recipe["task_args"] = {**recipe["task_args"], **task_args}
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
    if 0 < limit < len(set(dataset.train.targets.tolist())):
        raise InputError(f"limit={limit} leaves classes of {dataset.name} without a training image: take more.")
    # As many as there are, or more, are all: the same training has one config.
    limit = limit if limit < images else 0
    images = limit or images
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
