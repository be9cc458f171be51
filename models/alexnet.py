"""AlexNet, torchvision's: Krizhevsky, "One weird trick for parallelizing convolutional networks", arXiv:1404.5997.

From scratch it sees 64 px through a head cut to what ten classes need; with ImageNet weights it keeps its full head.
"""

import torchvision
from torch import Tensor, nn

TASK = "classification"
HEAD = "classifier"
WEIGHTS = torchvision.models.AlexNet_Weights.IMAGENET1K_V1
RECIPE = {
    "image_size": 64,
    "in_channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "model_args": {"pool": 1, "hidden": 512, "dropout": 0.2},
    "task_args": {"label_smoothing": 0.1},
    "optimizer": "muon",
    "lr": 2e-3,
    "weight_decay": 0.05,
    "warmup": 0.2,
    "batch_size": 128,
    "epochs": 9,
    "min_steps": 150,
    "clip_norm": 1.0,
    "augment": "affine",
    "freeze": "none",
    "precision": {"cpu": "bf16", "cuda": "bf16", "mps": "fp32"},
}
PRETRAINED = {
    "image_size": 224,
    "model_args": {},
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 1e-4,
    "weight_decay": 0.01,
    "epochs": 3,
    "task_args": {},
}
SEARCH = {
    "lr": {"low": 2e-5, "high": 5e-3, "log": True},
    "weight_decay": {"low": 1e-3, "high": 0.5, "log": True},
    "warmup": {"low": 0.05, "high": 0.5},
    "augment": {"choices": ("none", "shift", "affine")},
    "model_args.dropout": {"low": 0.0, "high": 0.5},
    "task_args.label_smoothing": {"low": 0.0, "high": 0.2},
}


class AlexNet(torchvision.models.AlexNet):
    """torchvision's AlexNet.

    Args:
        pool: side of the pooled map that enters the head; torchvision's is 6.
        hidden: width of the head's fully connected layers; torchvision's is 4096.
    """

    def __init__(self, *, num_classes: int = 10, pool: int = 6, hidden: int = 4096, dropout: float = 0.5) -> None:
        super().__init__(num_classes=num_classes, dropout=dropout)
        if (pool, hidden) != (6, 4096):
            self.avgpool = nn.AdaptiveAvgPool2d(pool)
            self.classifier = nn.Sequential(
                nn.Dropout(dropout),
                nn.Linear(256 * pool**2, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Linear(hidden, num_classes),
            )
            # torch's default weights shrink the signal from layer to layer; these keep its variance.
            for layer in self.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    nn.init.zeros_(layer.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) to pooled maps (N, 256 * pool**2)."""
        return self.avgpool(self.features(x)).flatten(1)

    def forward_head(self, z: Tensor) -> Tensor:
        """(N, 256 * pool**2) to logits (N, num_classes)."""
        return self.classifier(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


build = AlexNet
