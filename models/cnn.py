"""Convolutional network: pairs of convolutions with max pooling, then fully connected layers."""

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
    "epochs": 12,
    "min_steps": 200,
    "clip_norm": 0.0,
    "augment": "affine",
    "freeze": "none",
    "precision": {"cpu": "bf16", "cuda": "bf16", "mps": "fp32"},
}


class CNN(nn.Module):
    """Blocks of two convolutions and a max pooling, then one hidden fully connected layer.

    Args:
        channels: output channels of each block; the image is halved after each.
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
        channels: tuple[int, ...] = (32, 64),
        kernel_size: int = 3,
        stride: int = 1,
        padding: int | None = None,
        hidden: int = 128,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 if padding is None else padding
        layers: list[nn.Module] = []
        widths = (in_channels, *channels)
        for before, after in pairwise(widths):
            for width in (before, after):
                # Batch normalisation subtracts the mean, so a bias would have no effect.
                layers += [
                    nn.Conv2d(width, after, kernel_size, stride, padding, bias=False),
                    nn.BatchNorm2d(after),
                    nn.GELU(),
                ]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        try:
            with torch.no_grad():
                shape = self.features.eval()(torch.zeros(1, in_channels, image_size, image_size)).shape
        except RuntimeError as error:
            raise ValueError(f"{image_size} px are too few for {len(channels)} blocks of this stride.") from error
        self.features.train()
        self.head = nn.Sequential(
            nn.Linear(shape[1:].numel(), hidden),
            nn.GELU(),
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
