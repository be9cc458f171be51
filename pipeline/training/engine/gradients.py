"""The gradients of one batch: computed step by step, or replayed on a GPU as one recorded graph."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from pipeline.training.engine.batches import autocast
from pipeline.training.engine.state import Training

# Steps that are done before one is recorded, in which the libraries choose their algorithms; so PyTorch's notes on CUDA
# graphs ask for.
WARM_UP = 3

# Of inputs and targets; returns the losses and leaves the gradients with the parameters, which had none.
Gradients = Callable[[Tensor, Tensor], dict[str, Tensor]]


def gradients(training: Training, forward: Callable[..., Any]) -> Gradients:
    """What computes the losses of a training's batches and their gradients."""
    compute = partial(_compute, training, forward)
    # A graph would hold what the processes tell each other within a batch.
    if training.device.type == "cuda" and training.task.fixed_work and not training.ranks.sync_batch_norm:
        return Recorded(compute, [parameter for parameter in training.model.parameters() if parameter.requires_grad])
    return compute


def _compute(training: Training, forward: Callable[..., Any], inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    with autocast(training.config):
        losses = training.task.loss(forward, inputs, targets)
    training.scaler.scale(losses["loss"]).backward()
    return {name: loss.detach() for name, loss in losses.items()}


class Recorded:
    """The same work as a CUDA graph for each size of batch: small networks spend a GPU's time on launching kernels.

    Args:
        compute: does the same for every batch of a size.
        parameters: whose gradients it leaves.
    """

    def __init__(self, compute: Gradients, parameters: list[torch.nn.Parameter]) -> None:
        self.compute, self.parameters = compute, parameters
        self.stream = torch.cuda.Stream()
        self.done: Counter[int] = Counter()
        self.replays: dict[int, Gradients] = {}

    def __call__(self, inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
        size = len(inputs)
        self.done[size] += 1
        if self.done[size] <= WARM_UP:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                losses = self.compute(inputs, targets)
            torch.cuda.current_stream().wait_stream(self.stream)
            return losses
        if size not in self.replays:
            self.replays[size] = self._record(inputs, targets)
        return self.replays[size](inputs, targets)

    def _record(self, inputs: Tensor, targets: Tensor) -> Gradients:
        """Record the work on a batch, which does none of it yet."""
        graph, own_inputs, own_targets = torch.cuda.CUDAGraph(), inputs.clone(), targets.clone()
        with torch.cuda.graph(graph, stream=self.stream):
            losses = self.compute(own_inputs, own_targets)
        found = [parameter.grad for parameter in self.parameters]

        def replay(inputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
            own_inputs.copy_(inputs)
            own_targets.copy_(targets)
            graph.replay()
            for parameter, gradient in zip(self.parameters, found, strict=True):
                parameter.grad = gradient
            return losses

        return replay
