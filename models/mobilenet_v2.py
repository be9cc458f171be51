"""MobileNetV2, torchvision's: Sandler et al., "Inverted Residuals and Linear Bottlenecks", CVPR 2018, arXiv:1801.04381.

With pretrained weights its features are frozen and only the classifier trains; from scratch every layer trains, at
24 px and with the first stride reduced to 1, so that the digit is not enlarged only to be made smaller again.
"""

import torchvision
from torch import Tensor, nn

TASK = "classification"
HEAD = "classifier"
WEIGHTS = torchvision.models.MobileNet_V2_Weights.IMAGENET1K_V2
RECIPE = {
    "image_size": 24,
    "in_channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "model_args": {"first_stride": 1, "dropout": 0.0},
    "task_args": {"label_smoothing": 0.1},
    "optimizer": "adamw",
    "lr": 3e-3,
    "weight_decay": 0.05,
    "warmup": 0.3,
    "batch_size": 64,
    "epochs": 7,
    "min_steps": 140,
    "clip_norm": 1.0,
    "augment": "affine",
    "freeze": "none",
    "precision": {"cpu": "fp32", "cuda": "bf16", "mps": "fp32"},
}
PRETRAINED = {
    "image_size": 96,
    "model_args": {},
    "freeze": "features",
    "augment": "none",
    "epochs": 15,
    "min_steps": 1500,
    "task_args": {},
}
SEARCH = {
    "lr": {"low": 3e-4, "high": 3e-2, "log": True},
    "weight_decay": {"low": 5e-3, "high": 0.5, "log": True},
    "warmup": {"low": 0.05, "high": 0.5},
    "augment": {"choices": ("none", "shift", "affine")},
    "model_args.dropout": {"low": 0.0, "high": 0.5},
    "task_args.label_smoothing": {"low": 0.0, "high": 0.2},
}


class MobileNetV2(torchvision.models.MobileNetV2):
    """torchvision's MobileNetV2.

    Args:
        first_stride: stride of the first convolution; torchvision's 2 is made for 224 px.
    """

    def __init__(self, *, num_classes: int = 10, first_stride: int = 2, dropout: float = 0.2) -> None:
        super().__init__(num_classes=num_classes, dropout=dropout)
        self.features[0][0].stride = (first_stride, first_stride)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward_features(self, x: Tensor) -> Tensor:
        """(N, 3, S, S) to pooled maps (N, 1280)."""
        return self.pool(self.features(x)).flatten(1)

    def forward_head(self, z: Tensor) -> Tensor:
        """(N, 1280) to logits (N, num_classes)."""
        return self.classifier(z)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))


build = MobileNetV2
