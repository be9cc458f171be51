"""Multilayer perceptron: 784 inputs, one hidden layer of 100 units, 10 outputs."""

from torch import Tensor, nn

TASK = "classification"
HEAD = "head"
RECIPE = {
    "image_size": 28,
    "in_channels": 1,
    "mean": (0.1307,),
    "std": (0.3081,),
    "model_args": {},
    "task_args": {},
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.05,
    "warmup": 0.2,
    "batch_size": 128,
    "epochs": 40,
    "min_steps": 1500,
    "clip_norm": 0.0,
    "augment": "shift",
    "freeze": "none",
    "precision": {"cpu": "fp32", "cuda": "fp32", "mps": "fp32"},
}
SEARCH = {
    "lr": {"low": 3e-4, "high": 3e-2, "log": True},
    "weight_decay": {"low": 5e-3, "high": 0.5, "log": True},
    "warmup": {"low": 0.05, "high": 0.5},
    "batch_size": {"choices": (64, 128, 256)},
    "augment": {"choices": ("none", "shift", "affine")},
    "model_args.dropout": {"low": 0.0, "high": 0.5},
}


class MLP(nn.Module):
    """Flattened pixels, one hidden layer with ReLU, one linear layer."""

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        image_size: int = 28,
        hidden: int = 100,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Flatten(),
            nn.Linear(in_channels * image_size**2, hidden),
            nn.ReLU(),
        )
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(hidden, num_classes))

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, C, S, S) to (N, hidden)."""
        return self.body(x)

    def forward_head(self, z: Tensor) -> Tensor:
        """(N, hidden) to logits (N, num_classes)."""
        return self.head(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


build = MLP
