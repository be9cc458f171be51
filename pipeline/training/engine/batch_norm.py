"""Batch normalisation over the whole of a batch that several processes share.

What torch.nn.SyncBatchNorm does on GPUs, on processors as well, and exactly so where the parts of a batch differ by an
image. Without it each process normalises by its own part (Ioffe and Szegedy, 2015, arXiv:1502.03167, know one only).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from pipeline.training.engine.ranks import Ranks


def synchronise(model: nn.Module, ranks: Ranks) -> None:
    """Let every batch normalisation in a model have the statistics of the whole batch; names stay."""
    for name, module in list(model.named_modules()):
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d):
            model.set_submodule(name, SyncBatchNorm(module, ranks))


class SyncBatchNorm(_BatchNorm):
    """One layer, with the parameters and statistics of the layer it replaces.

    Args:
        layer: what it replaces.
        ranks: the processes that share a batch.
    """

    def __init__(self, layer: _BatchNorm, ranks: Ranks) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        self.ranks = ranks
        self._parameters, self._buffers = layer._parameters, layer._buffers
        self.train(layer.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take what the replaced layer took."""

    def forward(self, input: Tensor) -> Tensor:
        """Normalise this process's part of a batch, (N, C, ...)."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        # In two passes: the mean of the squares less the square of the mean would lose digits.
        mean, _ = self._mean(values)
        variance, count = self._mean((values - mean).square())
        self._remember(mean, variance, count=count)
        normalised = (values - mean) * torch.rsqrt(variance + self.eps)
        if self.affine:
            weight, bias = (parameter.view(mean.shape) for parameter in (self.weight, self.bias))
            normalised = normalised * weight + bias
        return normalised.to(input.dtype)

    def _mean(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The mean of each channel over the whole batch, (1, C, 1, ...), and of how many values it is."""
        sums = values.sum([0, *range(2, values.ndim)], keepdim=True)
        count = values.new_tensor([values[:, 0].numel()])
        totals = TotalOf.apply(torch.cat([sums.flatten(), count]), len(values), self.ranks)
        return (totals[:-1] / totals[-1]).view(sums.shape), totals[-1]

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor, *, count: Tensor) -> None:
        """Move the running statistics towards those of a batch of so many values a channel."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        weight = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.flatten(), weight)
        self.running_var.lerp_((variance * count / (count - 1)).flatten(), weight)


class TotalOf(torch.autograd.Function):
    """The sum over all processes, with gradients of a loss that is the mean over all images.

    Each process's loss is the mean over its own part, by whose images its gradients are weighted afterwards: what comes
    back is weighted by the images of those it comes from, and by the inverse of this one's.
    """

    @staticmethod
    def forward(context: Any, value: Tensor, images: int, ranks: Ranks) -> Tensor:
        context.images, context.ranks = images, ranks
        return ranks.total({"": value})[""]

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return context.ranks.total({"": gradient * context.images})[""] / context.images, None, None
