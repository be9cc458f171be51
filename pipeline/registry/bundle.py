"""The folder a registered model carries: weights, description and the source files that rebuild the network."""

import hashlib
import json
import logging
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
from pipeline.config import TrainConfig, check_source
from pipeline.data.images import ImageSet
from pipeline.errors import InputError, first_line
from pipeline.metrics.calibration import Calibration
from pipeline.registry.bundled import calibrated, inputs, preprocess

logger = logging.getLogger(__name__)

PREPROCESS = ("image_size", "in_channels", "mean", "std")
# The part of a config that weights only fit with.
STORED = (*PREPROCESS, "model_args")
# Where checkpoints of other programs hold the weights, and what wrappers of a network put before every name:
# DataParallel, torch.compile, Lightning.
CHECKPOINT = ("state_dict", "model_state_dict", "model")
WRAPPERS = ("module.", "_orig_mod.", "model.")


def write(
    folder: Path,
    *,
    config: TrainConfig,
    model: nn.Module,
    images: ImageSet,
    calibration: Calibration,
    typical: Mapping[str, Tensor] | None,
) -> None:
    """Write the bundle of a trained model into an existing folder.

    Args:
        images: of any part of the data.
        typical: of a classifier, what its training images look like to it: see bundled/calibrated.py.
    """
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
    for module in (preprocess, calibrated, inputs):
        shutil.copy(str(module.__file__), folder)
    stored = {name: getattr(config, name) for name in STORED} | {"classes": images.classes}
    save(folder / "weights.safetensors", model.state_dict(), {"config": json.dumps({"model": config.model, **stored})})
    if typical is not None:
        save(folder / "typical.safetensors", typical)


def save(path: Path, tensors: Mapping[str, Tensor], about: dict[str, str] | None = None) -> None:
    """Write tensors into a file."""
    on_cpu = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(on_cpu, path, metadata=about)
    # The library closes its file to everybody else; whoever may read the folder may read it.
    path.chmod(path.parent.joinpath("model.json").stat().st_mode)


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
    check_source(str(path))
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                saved = json.loads((file.metadata() or {}).get("config", "{}"))
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
        else:
            saved = {}
            state = torch.load(path, map_location="cpu", weights_only=True)
        state = unwrapped(state, path)
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
    return Saved(state, stored, tuple(saved["classes"]) if "classes" in saved else None)


def unwrapped(state: Any, path: Path) -> dict[str, Tensor]:
    """Named tensors, taken out of a checkpoint that holds more, with the names they had in the network alone.

    Raises:
        ValueError: there are none, or something else is among them.
    """
    if isinstance(state, Mapping) and (inside := [key for key in CHECKPOINT if isinstance(state.get(key), Mapping)]):
        logger.info("%s is a checkpoint: what it holds as %s is taken.", path, inside[0])
        state = state[inside[0]]
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError("it holds more than named tensors")
    names = [str(name) for name in state]
    while prefix := next((prefix for prefix in WRAPPERS if all(name.startswith(prefix) for name in names)), ""):
        if not names:
            raise ValueError("it holds no tensors")
        logger.info("The names in %s begin with %s, which is taken off.", path, prefix)
        names = [name.removeprefix(prefix) for name in names]
    return dict(zip(names, state.values(), strict=True))
