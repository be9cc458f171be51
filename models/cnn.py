"""Convolutional network: convolutions with batch normalisation and max pooling, then fully connected layers."""

from itertools import pairwise

import torch
from torch import Tensor, nn

TASK = "classification"
HEAD = "head"
RECIPE = {
    "image_size": 28,
    "in_channels": 1,
    "mean": (0.1307,),
    "std": (0.3081,),
    "model_args": {},
    "task_args": {"label_smoothing": 0.1},
    "optimizer": "adamw",
    "lr": 4e-3,
    "weight_decay": 0.05,
    "warmup": 0.2,
    "batch_size": 128,
    "epochs": 5,
    "min_steps": 110,
    "clip_norm": 0.0,
    "augment": "affine",
    "freeze": "none",
    "precision": {"cpu": "bf16", "cuda": "bf16", "mps": "fp32"},
}
SEARCH = {
    "lr": {"low": 4e-4, "high": 4e-2, "log": True},
    "weight_decay": {"low": 5e-3, "high": 0.5, "log": True},
    "warmup": {"low": 0.05, "high": 0.5},
    "batch_size": {"choices": (64, 128, 256)},
    "augment": {"choices": ("none", "shift", "affine")},
    "model_args.dropout": {"low": 0.0, "high": 0.5},
    "task_args.label_smoothing": {"low": 0.0, "high": 0.2},
}


class CNN(nn.Module):
    """A convolution, then pairs of convolutions, each halving the image, then one hidden fully connected layer.

    Args:
        channels: output channels of the first convolution and of each pair.
        kernel_size, stride, padding: of every convolution; `padding=None` keeps the size at stride 1.
        hidden: width of the fully connected layer.
        dropout: share of the hidden units dropped in training.

    Raises:
        ValueError: the image is too small for so many blocks.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        channels: tuple[int, ...] = (24, 48, 96),
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        hidden: int = 128,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 if padding is None else padding

        def convolution(before: int, after: int, *pool: nn.Module) -> list[nn.Module]:
            # Pooled before the rest, which then has a quarter of the work. Batch normalisation subtracts the mean, so a
            # bias would have no effect.
            layer = nn.Conv2d(before, after, kernel_size, stride, padding, bias=False)
            return [layer, *pool, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]

        layers = convolution(in_channels, channels[0], nn.MaxPool2d(2))
        for before, after in pairwise(channels):
            layers += convolution(before, after) + convolution(after, after, nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        try:
            with torch.no_grad():
                shape = self.features.eval()(torch.zeros(1, in_channels, image_size, image_size)).shape
        except RuntimeError as error:
            raise ValueError(f"{image_size} px are too few for {len(channels)} blocks of this stride.") from error
        self.features.train()
        self.head = nn.Sequential(
            nn.Linear(shape[1:].numel(), hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(hidden, num_classes),
        )

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, S, S) to flattened maps (N, D)."""
        return self.features(x).flatten(1)

    def forward_head(self, z: Tensor) -> Tensor:
        """(N, D) to logits (N, num_classes)."""
        return self.head(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


build = CNN
