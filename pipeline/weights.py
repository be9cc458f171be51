"""Where a model starts from: nowhere, torchvision's published weights, a file, or a registered model."""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

import models
from pipeline import bundle, registry
from pipeline.config import PUBLISHED
from pipeline.errors import WITHOUT_NETWORK, InputError, first_line
from pipeline.network import impatient_sockets


def load(
    source: str, model: str, model_args: Mapping[str, Any]
) -> tuple[Mapping[str, Tensor] | None, Mapping[str, Any]]:
    """Fetch starting weights for an architecture.

    Args:
        source: imagenet, none, a file, or a registered model `models:/NAME@ALIAS`.
        model_args: the user's, which may ask for other published weights.

    Returns:
        the weights by parameter name, None for fresh ones, and the config values that come with them: the hash of
        a file, and what its weights only fit with, where they came from this project.

    Raises:
        InputError: they cannot be fetched or read, or belong to another architecture.
    """
    if source == "none":
        return None, {}
    if source == PUBLISHED:
        return _published(model, model_args), {}
    if source.startswith("models:/"):
        with tempfile.TemporaryDirectory() as folder:
            return bundle.read_weights(registry.download_weights(source, Path(folder)), model=model)
    return bundle.read_weights(Path(source).expanduser(), model=model)


def _published(model: str, model_args: Mapping[str, Any]) -> Mapping[str, Tensor]:
    try:
        with impatient_sockets():
            published = models.get(model).published(model_args)
            return published.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:
        # No network, a wrong checksum, or a broken file in the cache, which fails in arbitrary ways.
        reason = first_line(error)
        raise InputError(
            f"The published weights of {model} could not be fetched ({reason}): {WITHOUT_NETWORK}."
        ) from error
