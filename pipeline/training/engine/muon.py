"""Muon: steps of weight matrices whose directions are all of one length."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
# Of the quintic iteration: they let small singular values grow fastest, and leave most between 0.5 and 1.5 after three.
QUINTIC, ITERATIONS = (3.4445, -4.7750, 2.0315), 3
# Makes a step as long as one of AdamW is on average, so that one learning rate does for both.
LENGTH = 0.2


class Muon(torch.optim.Optimizer):
    """Muon for the matrices among the groups, AdamW for the others.

    Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024; the length of a step as in Liu et
    al., "Muon is scalable for LLM training", 2025, arXiv:2502.16982. `torch.optim.Muon` takes neither
    convolutions nor parameters of both kinds, and always computes in bfloat16, which few processors can.

    Args:
        groups: parameter groups, those with `matrices` True to be stepped by Muon.
        lr: the learning rate of all.
        dtype: in which directions are made to be of one length.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, dtype: torch.dtype = torch.float32) -> None:
        others = torch.optim.AdamW([nn.Parameter(torch.empty(0))], lr=lr, fused=True)
        super().__init__(groups, {**others.defaults, "matrices": False})
        self.others, self.dtype = others, dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Step all parameters that have a gradient."""
        for group in self.param_groups:
            if group["matrices"]:
                self._step_matrices(group)
        # Loading a state replaces both, so they are shared anew.
        self.others.state = self.state
        self.others.param_groups = [group for group in self.param_groups if not group["matrices"]]
        self.others.step()

    def _step_matrices(self, group: dict[str, Any]) -> None:
        # Many at once wherever it can be: small operations cost more to begin than to compute, on a GPU above all.
        weights = [weight for weight in group["params"] if weight.grad is not None]
        if not weights:
            return
        gradients = [weight.grad for weight in weights]
        momenta = [self.state[weight].setdefault("momentum", torch.zeros_like(weight)) for weight in weights]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        towards = dict(zip(weights, torch._foreach_lerp(gradients, momenta, MOMENTUM), strict=True))
        torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
        for shape in {weight.shape: None for weight in weights}:
            alike = [weight for weight in weights if weight.shape == shape]
            directions = orthogonalize(torch.stack([towards[weight] for weight in alike]).flatten(2).to(self.dtype))
            length = LENGTH * math.sqrt(max(directions.shape[1:]))
            steps = directions.to(alike[0].dtype).unflatten(2, shape[1:]).unbind()
            torch._foreach_add_(alike, steps, alpha=-group["lr"] * length)


def orthogonalize(matrices: Tensor) -> Tensor:
    """About the nearest matrices (B, M, N) whose singular values are all one."""
    a, b, c = QUINTIC
    is_wide = matrices.shape[1] <= matrices.shape[2]
    wide = matrices if is_wide else matrices.mT
    wide = wide / wide.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = wide.bmm(wide.mT)
        wide = wide.baddbmm(gram.baddbmm(gram, gram, beta=b, alpha=c), wide, beta=a)
    return wide if is_wide else wide.mT


def matrices(model: nn.Module) -> list[Tensor]:
    """The weights of all layers but the last, and but a convolution of the pixels.

    Convolutions of single channels are none: they mix nothing.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear | nn.Conv2d)][:-1]
    if layers and isinstance(layers[0], nn.Conv2d):
        layers = layers[1:]
    return [layer.weight for layer in layers if getattr(layer, "groups", 1) == 1]
