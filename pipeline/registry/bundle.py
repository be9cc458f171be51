"""The folder a registered model carries: weights, description and the two source files that rebuild the network."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import models
from pipeline.config import TrainConfig
from pipeline.data.images import ImageSet
from pipeline.errors import InputError, first_line
from pipeline.metrics.calibration import Calibration
from pipeline.registry.bundled import preprocess

PREPROCESS = ("image_size", "in_channels", "mean", "std")
# The part of a config that weights only fit with.
STORED = (*PREPROCESS, "model_args")


def write(folder: Path, *, config: TrainConfig, model: nn.Module, images: ImageSet, calibration: Calibration) -> None:
    """Write the bundle of a trained model into an existing folder."""
    # An architecture that takes images as they are takes them in any size.
    height, width = images.images.shape[1:] if config.image_size else (None, None)
    about = {
        "model": config.model,
        "task": config.task,
        "task_args": config.task_args,
        "dataset": config.dataset,
        "classes": images.classes,
        "height": height,
        "width": width,
        "arguments": config.build_arguments(num_classes=len(images.classes)),
        "preprocess": {name: getattr(config, name) for name in PREPROCESS},
        "calibration": asdict(calibration),
    }
    (folder / "model.json").write_text(json.dumps(about, indent=2))
    shutil.copy(models.get(config.model).file, folder / "architecture.py")
    shutil.copy(preprocess.__file__, folder / "preprocess.py")
    stored = {name: getattr(config, name) for name in STORED} | {"classes": images.classes}
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(
        weights, folder / "weights.safetensors", metadata={"config": json.dumps({"model": config.model, **stored})}
    )


@dataclass(frozen=True)
class Saved:
    """Weights from a file.

    Attributes:
        state: the weights by parameter name.
        stored: config values: the file's hash, and those of STORED it was saved with.
        classes: what it tells apart, None where the file does not say.
    """

    state: dict[str, Tensor]
    stored: Mapping[str, Any]
    classes: tuple[str, ...] | None


def read_weights(path: Path, *, model: str) -> Saved:
    """Weights from a file: .safetensors, or a state dict as torch saves it, of which only tensors are read.

    Raises:
        InputError: no such file, no weights in it, or those of another architecture.
    """
    if not path.is_file():
        raise InputError(
            f"There is no weights file '{path}': use weights=imagenet, none, a file or models:/NAME@ALIAS."
        )
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                saved = json.loads((file.metadata() or {}).get("config", "{}"))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        else:
            saved = {}
            state = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
                raise ValueError("it holds more than named tensors")
        origin = saved.get("model", model)
        stored = {name: saved[name] for name in STORED if name in saved}
        with path.open("rb") as file:
            stored["weights_sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
    except Exception as error:
        # Arbitrary bytes make the reader of tensors fail in arbitrary ways.
        reason = first_line(error).split(". ")[0]
        raise InputError(f"{path} holds no weights that can be read safely ({reason}).") from error
    if origin != model:
        raise InputError(f"{path} holds the weights of {origin}, not of {model}.")
    return Saved(dict(state), stored, tuple(saved["classes"]) if "classes" in saved else None)
