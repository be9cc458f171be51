"""Vision Transformer from scratch: Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929.

The tokens' mean takes the place of the class token, as in Beyer et al., "Better plain ViT baselines for ImageNet-1k",
2022, arXiv:2205.01580. Sixteen large patches train three times as fast as 49 small ones and so see three times as many
images, which a transformer needs more.
"""

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
    "optimizer": "muon",
    "lr": 6e-3,
    "weight_decay": 0.05,
    "warmup": 0.2,
    "batch_size": 64,
    "epochs": 20,
    "min_steps": 420,
    "clip_norm": 1.0,
    "augment": "affine",
    "freeze": "none",
    "precision": {"cpu": "bf16", "cuda": "bf16", "mps": "fp32"},
}
SEARCH = {
    "lr": {"low": 2e-4, "high": 2e-2, "log": True},
    "weight_decay": {"low": 5e-3, "high": 0.5, "log": True},
    "warmup": {"low": 0.05, "high": 0.5},
    "batch_size": {"choices": (32, 64, 128)},
    "augment": {"choices": ("none", "shift", "affine")},
    "model_args.dropout": {"low": 0.0, "high": 0.3},
    "task_args.label_smoothing": {"low": 0.0, "high": 0.2},
}


class Attention(nn.Module):
    """Multi-head self-attention over (N, T, dim)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.project = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, t, dim = x.shape
        q, k, v = self.qkv(x).view(n, t, 3, self.heads, dim // self.heads).permute(2, 0, 3, 1, 4)
        # Plain products: at fifty tokens the fused kernel's backward pass takes twice as long on a CPU.
        weights = (q * q.shape[-1] ** -0.5 @ k.transpose(-2, -1)).softmax(-1)
        return self.project((weights @ v).transpose(1, 2).reshape(n, t, dim))


class EncoderBlock(nn.Module):
    """Pre-norm encoder block: attention, then a two-layer perceptron, each with a residual connection."""

    def __init__(self, dim: int, heads: int, mlp_dim: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.mlp_norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_dim), nn.GELU(), nn.Linear(mlp_dim, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.mlp(self.mlp_norm(x)))


class ViT(nn.Module):
    """Patch embedding, learned positions, encoder blocks, linear head on the mean of the normalised tokens.

    Raises:
        ValueError: `image_size` is no multiple of `patch_size`, or `dim` none of `heads`.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        patch_size: int = 7,
        dim: int = 96,
        depth: int = 5,
        heads: int = 3,
        mlp_dim: int = 192,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ValueError(f"image_size {image_size} is no multiple of patch_size {patch_size}.")
        if dim % heads:
            raise ValueError(f"dim {dim} is no multiple of heads {heads}.")
        tokens = (image_size // patch_size) ** 2
        self.embed = nn.Conv2d(in_channels, dim, patch_size, patch_size)
        self.positions = nn.Parameter(torch.randn(1, tokens, dim) * 0.02)
        self.blocks = nn.Sequential(*[EncoderBlock(dim, heads, mlp_dim, dropout) for _ in range(depth)])
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, num_classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, S, S) to the mean of the normalised tokens (N, dim)."""
        tokens = self.embed(x).flatten(2).transpose(1, 2) + self.positions
        return self.norm(self.blocks(tokens)).mean(1)

    def forward_head(self, z: Tensor) -> Tensor:
        """(N, dim) to logits (N, num_classes)."""
        return self.head(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


build = ViT
