"""Where a model starts from: nowhere, torchvision's published weights, a file, or a registered model."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch
from torch import Tensor

import models
from pipeline.config import PUBLISHED, resolve_weights
from pipeline.errors import Unreachable, first_line
from pipeline.network import Download, impatient_sockets
from pipeline.registry import bundle, loading, versions


@dataclass(frozen=True)
class InitialWeights:
    """What a training starts from.

    Attributes:
        state: weights by parameter name, None for fresh ones.
        stored: config values that come with them: the hash of a file, and what its weights only fit with, where they
            came from this project.
        lineage: the registered model and run that they came from, and what became of its head; empty if from none.
    """

    state: Mapping[str, Tensor] | None
    stored: Mapping[str, Any]
    lineage: str = ""


FRESH = InitialWeights(None, {})


def find(model: str, source: str | None, model_args: Mapping[str, Any]) -> str:
    """Where the weights come from, as `config.resolve_weights`; an alias becomes the version it stands for now.

    Raises:
        InputError: there is no such model, or no published weights.
    """
    source = resolve_weights(model, source, model_args)
    return versions.find(source).uri if source.startswith("models:/") else source


def load(source: str, model: str, model_args: Mapping[str, Any], *, classes: tuple[str, ...]) -> InitialWeights:
    """Fetch starting weights for an architecture.

    Args:
        source: imagenet, none, a file, or a registered model `models:/NAME/VERSION`, of which only weights are read.
        model_args: the user's, which may ask for other published weights.
        classes: what is to be told apart; a head for others is left out.

    Raises:
        InputError: they cannot be fetched or read, or belong to another architecture.
    """
    if source == "none":
        return FRESH
    if source == PUBLISHED:
        return InitialWeights(_published(model, model_args), {})
    lineage = ""
    if source.startswith("models:/"):
        with tempfile.TemporaryDirectory() as folder:
            saved = bundle.read_weights(loading.download_weights(source, Path(folder)), model=model)
        lineage = f"{source} of run {versions.find(source).run_id}"
    else:
        saved = bundle.read_weights(Path(source).expanduser(), model=model)
    if saved.classes in (None, classes):
        return InitialWeights(saved.state, saved.stored, lineage)
    head = models.get(model).head
    features = {name: value for name, value in saved.state.items() if not name.startswith(f"{head}.")}
    return InitialWeights(features, saved.stored, lineage and f"{lineage}, with a fresh head for other classes")


def stored(source: str, model: str, *, classes: tuple[str, ...]) -> Mapping[str, Any]:
    """Config values that come with weights, known before anything is downloaded: published ones bring none."""
    return {} if source == PUBLISHED else load(source, model, {}, classes=classes).stored


def download_of(source: str, model: str, model_args: Mapping[str, Any]) -> list[Download]:
    """What `load` would download: one thing or nothing."""
    published: Any = models.get(model).published(model_args) if source == PUBLISHED else None
    if published is None or Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(published.url).path).name).is_file():
        return []
    # Of fresh weights nothing is worth keeping as it is.
    return [Download(_published_name(model), published.meta["_file_size"], {"weights": "none", "freeze": None})]


def downloads_of(starts: Mapping[str, str]) -> list[Download]:
    """What `load` would download for several architectures, each with where it starts from."""
    return [download for model, source in starts.items() for download in download_of(source, model, {})]


def fetch(source: str, model: str, model_args: Mapping[str, Any]) -> None:
    """Download what `load` would, so that it is known to be had.

    Raises:
        Unreachable: it is not.
    """
    if download_of(source, model, model_args):
        _published(model, model_args)


def _published_name(model: str) -> str:
    return f"the published weights of {model}"


def _published(model: str, model_args: Mapping[str, Any]) -> Mapping[str, Tensor]:
    try:
        with impatient_sockets():
            published: Any = models.get(model).published(model_args)
            return published.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
    except Exception as error:
        # No network, a wrong checksum, or a broken file in the cache, which fails in arbitrary ways.
        raise Unreachable(_published_name(model), first_line(error)) from error
