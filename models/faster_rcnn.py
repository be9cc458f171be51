"""Faster R-CNN, torchvision's parts: Ren et al., "Faster R-CNN", NeurIPS 2015, arXiv:1506.01497.

torchvision's defaults are made for photographs of 800 px. From scratch, a few residual blocks look at digits as they
are, with anchors and numbers of proposals that fit them; with weights from COCO, a torchvision backbone looks at them
enlarged.
"""

import torch
from torch import Tensor, nn
from torchvision.models import detection
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import FrozenBatchNorm2d, MultiScaleRoIAlign

TASK = "detection"
HEAD = "roi_heads"
WEIGHTS = {
    "mobilenet_v3_large_320_fpn": detection.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
    "resnet50_fpn": detection.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
}
RECIPE = {
    "image_size": 0,
    "in_channels": 1,
    "mean": (0.1307,),
    "std": (0.3081,),
    "model_args": {},
    "task_args": {},
    "optimizer": "muon",
    "lr": 2e-3,
    "weight_decay": 0.05,
    "warmup": 0.2,
    "batch_size": 32,
    "epochs": 6,
    "min_steps": 330,
    "clip_norm": 1.0,
    "augment": "affine",
    "freeze": "none",
    "precision": {"cpu": "bf16", "cuda": "bf16", "mps": "fp32"},
}
PRETRAINED = {
    "in_channels": 3,
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "model_args": {"backbone": "mobilenet_v3_large_320_fpn", "frozen_norm": True},
    "optimizer": "adamw",
    "lr": 2e-4,
    "weight_decay": 0.01,
    "epochs": 3,
}
SEARCH = {
    "lr": {"low": 5e-5, "high": 1e-2, "log": True},
    "weight_decay": {"low": 1e-3, "high": 0.5, "log": True},
    "warmup": {"low": 0.05, "high": 0.5},
    "augment": {"choices": ("none", "shift", "affine")},
}

ANCHORS = {"sizes": ((12, 20, 30),), "aspect_ratios": ((1.0, 2.0),)}
PROPOSALS = {
    "rpn_batch_size_per_image": 64,
    "rpn_pre_nms_top_n_train": 200,
    "rpn_post_nms_top_n_train": 48,
    "rpn_pre_nms_top_n_test": 1000,
    "rpn_post_nms_top_n_test": 300,
    # So that an image costs what is in it: one digit leaves a few regions to judge, forty leave hundreds.
    "rpn_score_thresh": 0.05,
    "box_batch_size_per_image": 24,
    "box_positive_fraction": 0.33,
    # Low, so that nearly every class that a box may be is heard of; who wants sure ones asks for a higher score.
    "box_score_thresh": 0.01,
}
ROI_SIDE = 7
RESIDUAL_STRIDE = 4
# torchvision's backbones and their anchors are made for objects of at least 32 px.
TORCHVISION_ZOOM, TORCHVISION_STRIDE = 4, 32


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut: He et al., "Deep Residual Learning", CVPR 2016, arXiv:1512.03385."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.main = nn.Sequential(
            nn.Conv2d(before, after, 3, stride, 1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(inplace=True),
            nn.Conv2d(after, after, 3, 1, 1, bias=False),
            nn.BatchNorm2d(after),
        )
        self.shortcut = nn.Sequential()
        if (before, stride) != (after, 1):
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.main(x) + self.shortcut(x))


class ResidualBackbone(nn.Module):
    """A stem and residual blocks; one map, smaller than the image by RESIDUAL_STRIDE."""

    def __init__(self, in_channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        first, second, *others = widths
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, first, 3, 2, 1, bias=False), nn.BatchNorm2d(first), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential(ResidualBlock(first, first, 1), ResidualBlock(first, second, 2))
        before = second
        for after in others:
            self.blocks.append(ResidualBlock(before, after, 1))
            before = after
        self.out_channels = before

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"0": self.blocks(self.stem(x))}


class SeparableRoIAlign(nn.Module):
    """RoIAlign over one map as two batched matrix products.

    Bilinear interpolation and the mean over sampling points are linear in rows and in columns, so that one matrix for
    each axis of a region does both. The same numbers as torchvision's operator with `aligned=True`, whose backward pass
    is a loop over single pixels.

    Args:
        side: cells of a pooled region along each axis.
        scale: size of the map as a share of the image's.
        sampling_ratio: points a cell along each axis.
    """

    def __init__(self, side: int, scale: float, sampling_ratio: int = 2) -> None:
        super().__init__()
        self.side = side
        self.scale = scale
        self.sampling_ratio = sampling_ratio

    def forward(self, maps: dict[str, Tensor], regions: list[Tensor], image_sizes: list[tuple[int, int]]) -> Tensor:
        """Pool regions of each image, (R_i, 4) in pixels, to (sum of R_i, C, side, side)."""
        (features,) = maps.values()
        n, c, h, w = features.shape
        boxes = nn.utils.rnn.pad_sequence(regions, batch_first=True)
        most = boxes.shape[1]
        rows = self._weights(boxes[..., 1], boxes[..., 3], h)
        columns = self._weights(boxes[..., 0], boxes[..., 2], w)
        pooled = rows.flatten(1, 2) @ features.permute(0, 2, 3, 1).reshape(n, h, w * c)
        pooled = columns[:, :, None] @ pooled.view(n, most, self.side, w, c)
        counts = torch.tensor([len(region) for region in regions], device=boxes.device)
        filled = torch.arange(most, device=boxes.device) < counts[:, None]
        return pooled[filled].permute(0, 3, 1, 2)

    def _weights(self, low: Tensor, high: Tensor, length: int) -> Tensor:
        """How much each of `length` pixels counts in each of `side` cells between two edges: (N, R, side, length)."""
        points = self.side * self.sampling_ratio
        steps = (torch.arange(points, device=low.device) + 0.5) / points
        at = (low[..., None] + (high - low)[..., None] * steps) * self.scale - 0.5
        # Beyond the last pixel's centre its value goes on, and ends a whole pixel further out.
        inside = (at >= -1) & (at <= length)
        distance = at.clamp(0, length - 1)[..., None] - torch.arange(length, device=low.device)
        weights = (1 - distance.abs()).clamp(min=0) * inside[..., None]
        return weights.unflatten(-2, (self.side, self.sampling_ratio)).mean(-2)


class FasterRCNN(nn.Module):
    """torchvision's Faster R-CNN on a batch of images of one size.

    Args:
        backbone: residual, or torchvision's mobilenet_v3_large_320_fpn or resnet50_fpn.
        widths: channels of the residual backbone's stem and blocks.
        hidden: width of the two layers that judge a region of the residual backbone.
        zoom: how often images are enlarged first; 0: 1 for the residual backbone, 4 for torchvision's.
        frozen_norm: fixed statistics in a torchvision backbone, for fine-tuning in small batches.
        detections: most boxes of an image that are returned.

    Raises:
        ValueError: there is no such backbone.
    """

    def __init__(
        self,
        *,
        num_classes: int = 10,
        in_channels: int = 1,
        backbone: str = "residual",
        widths: tuple[int, ...] = (32, 64, 96, 96),
        hidden: int = 256,
        zoom: int = 0,
        frozen_norm: bool = False,
        detections: int = 100,
    ) -> None:
        super().__init__()
        limits = {**PROPOSALS, "box_detections_per_img": detections}
        if backbone == "residual":
            parts = residual_detector(ResidualBackbone(in_channels, widths), num_classes, hidden, limits)
        elif backbone in WEIGHTS:
            build_detector = getattr(detection, f"fasterrcnn_{backbone}")
            parts = build_detector(weights=None, weights_backbone=None, num_classes=num_classes + 1, **limits)
        else:
            raise ValueError(f"there is no backbone '{backbone}': choose residual, {' or '.join(WEIGHTS)}")
        self.backbone, self.rpn, self.roi_heads = parts.backbone, parts.rpn, parts.roi_heads
        own = backbone == "residual"
        self.zoom = zoom or (1 if own else TORCHVISION_ZOOM)
        self.stride = RESIDUAL_STRIDE if own else TORCHVISION_STRIDE
        self.grey_as_rgb = not own and in_channels == 1
        if frozen_norm:
            freeze_norm(self.backbone, eps=0.0 if backbone == "resnet50_fpn" else 1e-5)
        for predicting in (self.rpn.head, self.roi_heads.box_predictor):
            predicting.register_forward_hook(to_full_precision)

    def forward_features(self, x: Tensor) -> tuple[ImageList, dict[str, Tensor]]:
        """(N, C, H, W) to the images as the backbone sees them, with their size before padding, and their maps."""
        if self.zoom != 1:
            x = nn.functional.interpolate(x, scale_factor=self.zoom, mode="bilinear", align_corners=False)
        if self.grey_as_rgb:
            x = x.expand(-1, 3, -1, -1)
        height, width = x.shape[-2:]
        # To whole strides, so that every anchor lies where its feature does; the edge goes on, so that none is seen.
        x = nn.functional.pad(x, (0, -width % self.stride, 0, -height % self.stride), mode="replicate")
        return ImageList(x, [(height, width)] * len(x)), self.backbone(x)

    def forward_head(
        self, z: tuple[ImageList, dict[str, Tensor]], targets: Tensor | None = None
    ) -> dict[str, Tensor] | Tensor:
        """Images and maps to what `forward` returns."""
        images, maps = z
        # The anchors take their type from the maps.
        maps = {level: features.float() for level, features in maps.items()}
        truth = None if targets is None else [self._truth(rows) for rows in targets]
        regions, losses = self.rpn(images, maps, truth)
        found, region_losses = self.roi_heads(maps, regions, images.image_sizes, truth)
        if targets is not None:
            return losses | region_losses
        return torch.stack([self._rows(boxes) for boxes in found])

    def forward(self, x: Tensor, targets: Tensor | None = None) -> dict[str, Tensor] | Tensor:
        """Detect, or with targets in training mode compute the losses.

        Args:
            x: images (N, C, H, W).
            targets: (N, D, 5), each row x1, y1, x2, y2 in pixels and the class, -1 where there is no object.

        Returns:
            (N, detections, 6), each row x1, y1, x2, y2 in pixels, score and class, best first, class -1 where there
            is no detection; with targets, torchvision's four losses by name.
        """
        return self.forward_head(self.forward_features(x), targets)

    def _truth(self, rows: Tensor) -> dict[str, Tensor]:
        """Targets the way torchvision takes them: the class 0 is the background."""
        rows = rows[rows[:, 4] >= 0]
        return {"boxes": rows[:, :4].float() * self.zoom, "labels": rows[:, 4].long() + 1}

    def _rows(self, found: dict[str, Tensor]) -> Tensor:
        """One image's detections, filled up to the same number for every image."""
        columns = (found["boxes"] / self.zoom, found["scores"][:, None], found["labels"][:, None] - 1)
        missing = self.roi_heads.detections_per_img - len(found["scores"])
        nothing = torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -1.0], device=found["scores"].device)
        return torch.cat([torch.cat(columns, 1), nothing.expand(missing, -1)])


def residual_detector(backbone: nn.Module, num_classes: int, hidden: int, limits: dict) -> detection.FasterRCNN:
    """torchvision's parts, fitted to objects of 10 to 40 px on a single map."""
    channels = backbone.out_channels
    anchors = AnchorGenerator(**ANCHORS)
    parts = detection.FasterRCNN(
        backbone,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(channels, anchors.num_anchors_per_location()[0]),
        box_roi_pool=MultiScaleRoIAlign(["0"], ROI_SIDE, sampling_ratio=2),
        box_head=TwoMLPHead(channels * ROI_SIDE**2, hidden),
        box_predictor=FastRCNNPredictor(hidden, num_classes + 1),
        **limits,
    )
    # Afterwards, because the constructor accepts no pooling but its own.
    parts.roi_heads.box_roi_pool = SeparableRoIAlign(ROI_SIDE, 1 / RESIDUAL_STRIDE)
    return parts


def freeze_norm(module: nn.Module, *, eps: float) -> None:
    """Put normalisations with fixed statistics, as the published weights were trained with, in place of all others."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps=eps))
        else:
            freeze_norm(child, eps=eps)


def to_full_precision(module: nn.Module, inputs: tuple, outputs: tuple) -> tuple:
    """Forward hook for mixed precision: the three digits of bfloat16 are too few for boxes."""
    return tuple(
        [part.float() for part in output] if isinstance(output, list) else output.float() for output in outputs
    )


build = FasterRCNN
