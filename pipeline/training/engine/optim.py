"""Optimizers and the schedule of the learning rate."""

import inspect
import math
from typing import Any

import torch
from torch import nn

from pipeline.config import TrainConfig
from pipeline.training.engine.muon import Muon, matrices

SGD_MOMENTUM = 0.9


def one_cycle(step: int, *, total: int, warmup: float) -> float:
    """Factor of the learning rate: a cosine up from 1/25, then one down to almost nothing.

    Smith and Topin, "Super-Convergence", 2018, arXiv:1708.07120, with the constants that torch's OneCycleLR has; that
    one divides by zero in trainings of very few steps.
    """
    peak = max(1.0, warmup * total - 1)
    if step <= peak:
        low, progress = 1 / 25, step / peak
    else:
        low, progress = 1 / 25 / 1e4, max(0.0, 1 - (step - peak) / max(1.0, total - 1 - peak))
    return low + (1 - low) * (1 - math.cos(math.pi * progress)) / 2


def create_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The config's optimizer over what trains; biases and normalisations are spared the weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    weights, rest = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    if config.optimizer == "muon":
        inner = set(matrices(model))
        groups[0]["params"] = [p for p in weights if p not in inner]
        stepped = [p for p in weights if p in inner]
        groups.append({"params": stepped, "weight_decay": config.weight_decay, "matrices": True})
        return Muon(groups, lr=config.lr, dtype=torch.bfloat16 if config.precision == "bf16" else torch.float32)
    classes: dict[str, Any] = {name.lower(): found for name, found in inspect.getmembers(torch.optim, inspect.isclass)}
    create = classes[config.optimizer]
    wanted = {"fused": True, **({"momentum": SGD_MOMENTUM, "nesterov": True} if config.optimizer == "sgd" else {})}
    known = inspect.signature(create).parameters
    return create(groups, lr=config.lr, **{name: value for name, value in wanted.items() if name in known})
