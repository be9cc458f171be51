"""One training in several processes, each of which computes its part of every batch.

What makes it one training is an all-reduce of the gradients in each step, as in PyTorch's DistributedDataParallel
(Li et al., "PyTorch Distributed", VLDB 2020, arXiv:2006.15704). It is written out here, since it also has to hold for
heads on cached features and for steps that a GPU replays.
"""

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from pipeline.errors import PipelineError


@dataclass(frozen=True)
class Ranks:
    """The processes of one training, as one of them sees them.

    Attributes:
        rank: of this one; the first tells the tracking server and tests.
        count: how many there are.
        sync_batch_norm: whether batch normalisation has the statistics of the whole batch, or of a process's part.
    """

    rank: int = 0
    count: int = 1
    sync_batch_norm: bool = False

    @property
    def is_first(self) -> bool:
        """Whether this one tells what is found."""
        return self.rank == 0

    def part(self, images: int) -> slice:
        """Which of so many images in a batch are this one's."""
        return slice(images * self.rank // self.count, images * (self.rank + 1) // self.count)

    def seed(self, seed: int, epoch: int) -> None:
        """Draw dropout in this epoch otherwise than the first process does, the same whenever it is done."""
        if not self.is_first:
            torch.manual_seed(hash((seed, epoch, self.rank)))

    def average_gradients(self, parameters: Sequence[nn.Parameter], *, images: int) -> None:
        """Replace the gradients of this process's part of a batch, of so many images, by those of the whole."""
        if self.count == 1:
            return
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        weight = gradients[0].new_tensor([images])
        *sums, total = self._sum(torch.cat([*(gradient.flatten() * weight for gradient in gradients), weight])).split(
            [*(gradient.numel() for gradient in gradients), 1]
        )
        for parameter, gradient, summed in zip(parameters, gradients, sums, strict=True):
            parameter.grad = gradient.copy_((summed / total).view(gradient.shape))

    def average_statistics(self, model: nn.Module) -> None:
        """Give all processes the mean of what batch normalisation has seen in each."""
        for buffer in model.buffers() if self.count > 1 else ():
            if buffer.is_floating_point():
                buffer.copy_(self._sum(buffer.clone()) / self.count)

    def total(self, sums: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sums over all processes of what each has summed."""
        return {name: self._sum(value.clone()) for name, value in sums.items()} if self.count > 1 else dict(sums)

    def gather(self, parts: Sequence[Any]) -> list[Any]:
        """What was dealt out in turn, put together again in its order."""
        if self.count == 1:
            return list(parts)
        dealt: list[Any] = [None] * self.count
        with lost_processes():
            torch.distributed.all_gather_object(dealt, list(parts))
        return [dealt[number % self.count][number // self.count] for number in range(sum(map(len, dealt)))]

    def same_state(self, state: Mapping[str, Any]) -> Mapping[str, Any]:
        """The first process's state in all of them, in plain types and tensors."""
        if self.count == 1:
            return state
        written = io.BytesIO()
        torch.save(dict(state), written)
        told = [written.getvalue()]
        with lost_processes():
            torch.distributed.broadcast_object_list(told, src=0)
        return state if self.is_first else torch.load(io.BytesIO(told[0]), map_location="cpu", weights_only=True)

    def _sum(self, values: Tensor) -> Tensor:
        with lost_processes():
            torch.distributed.all_reduce(values)
        return values


ALONE = Ranks()


@contextmanager
def lost_processes() -> Iterator[None]:
    """Say in words that the other processes of a training are gone.

    Raises:
        PipelineError: they are.
    """
    try:
        yield
    except RuntimeError as error:
        raise PipelineError(
            "Another process of this training ended before its time: run the same command again with --resume."
        ) from error
