"""Optimizers and the schedule of the learning rate."""

import inspect
import math
from typing import Any

import torch
from torch import nn

from pipeline.config import TrainConfig

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
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    classes: dict[str, Any] = {name.lower(): found for name, found in inspect.getmembers(torch.optim, inspect.isclass)}
    create = classes[config.optimizer]
    wanted = {"fused": True, **({"momentum": SGD_MOMENTUM, "nesterov": True} if config.optimizer == "sgd" else {})}
    known = inspect.signature(create).parameters
    return create(groups, lr=config.lr, **{name: value for name, value in wanted.items() if name in known})
