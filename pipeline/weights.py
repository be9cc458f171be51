"""Where a model starts from: nowhere, torchvision's published weights, a file, or a registered model."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import models
from pipeline import bundle, tracking
from pipeline.config import PUBLISHED
from pipeline.errors import WITHOUT_NETWORK, InputError


def load(source: str, model: str) -> tuple[Mapping[str, Tensor] | None, Mapping[str, Any]]:
    """Fetch starting weights for an architecture.

    Args:
        source: imagenet, none, a file, or a registered model `models:/NAME@ALIAS`.

    Returns:
        the weights by parameter name, None for fresh ones, and the config values they only fit with, where they
        came from this project.

    Raises:
        InputError: they cannot be fetched or read, or belong to another architecture.
    """
    if source == "none":
        return None, {}
    if source == PUBLISHED:
        return _published(model), {}
    if source.startswith("models:/"):
        with tempfile.TemporaryDirectory() as folder:
            return bundle.read_weights(tracking.download_weights(source, Path(folder)), model=model)
    return bundle.read_weights(Path(source).expanduser(), model=model)


def _published(model: str) -> Mapping[str, Tensor]:
    try:
        return models.get(model).weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise InputError(
            f"The published weights of {model} could not be fetched ({reason}): {WITHOUT_NETWORK}."
        ) from error
