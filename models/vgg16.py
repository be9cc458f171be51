"""VGG16, torchvision's: Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, arXiv:1409.1556.

From scratch it sees 32 px through a head cut to what ten classes need; with ImageNet weights it keeps its full head.
"""

import torchvision
from torch import Tensor, nn
from torchvision.models.vgg import VGG, cfgs, make_layers

TASK = "classification"
HEAD = "classifier"
WEIGHTS = torchvision.models.VGG16_Weights.IMAGENET1K_V1
RECIPE = {
    "image_size": 32,
    "in_channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "model_args": {"pool": 1, "hidden": 512, "dropout": 0.0},
    "task_args": {"label_smoothing": 0.1},
    "optimizer": "adamw",
    "lr": 5e-4,
    "weight_decay": 0.05,
    "warmup": 0.3,
    "batch_size": 64,
    "epochs": 4,
    "min_steps": 130,
    "clip_norm": 1.0,
    "augment": "affine",
    "freeze": "none",
    "precision": {"cpu": "bf16", "cuda": "bf16", "mps": "fp32"},
}
PRETRAINED = {
    "image_size": 224,
    "model_args": {},
    "task_args": {},
    "batch_size": 32,
    "lr": 5e-5,
    "weight_decay": 0.01,
    "epochs": 2,
}
SEARCH = {
    "lr": {"low": 1e-5, "high": 5e-3, "log": True},
    "weight_decay": {"low": 1e-3, "high": 0.5, "log": True},
    "warmup": {"low": 0.05, "high": 0.5},
    "augment": {"choices": ("none", "shift", "affine")},
    "model_args.dropout": {"low": 0.0, "high": 0.5},
    "task_args.label_smoothing": {"low": 0.0, "high": 0.2},
}


class VGG16(VGG):
    """torchvision's VGG16.

    Args:
        pool: side of the pooled map that enters the head; torchvision's is 7.
        hidden: width of the head's fully connected layers; torchvision's is 4096.
    """

    def __init__(self, *, num_classes: int = 10, pool: int = 7, hidden: int = 4096, dropout: float = 0.5) -> None:
        super().__init__(make_layers(cfgs["D"]), num_classes=num_classes, dropout=dropout)
        if (pool, hidden) != (7, 4096):
            self.avgpool = nn.AdaptiveAvgPool2d(pool)
            self.classifier = nn.Sequential(
                nn.Linear(512 * pool**2, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, hidden),
                nn.ReLU(inplace=True),
                nn.Dropout(dropout),
                nn.Linear(hidden, num_classes),
            )
            # As torchvision does for the convolutions: the variance of the signal survives all sixteen layers.
            for layer in self.classifier:
                if isinstance(layer, nn.Linear):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                    nn.init.zeros_(layer.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) to pooled maps (N, 512 * pool**2)."""
        return self.avgpool(self.features(x)).flatten(1)

    def forward_head(self, z: Tensor) -> Tensor:
        """(N, 512 * pool**2) to logits (N, num_classes)."""
        return self.classifier(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


build = VGG16
