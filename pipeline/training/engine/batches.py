"""What a batch is made from: resident images, or features computed once."""

import math
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import psutil
import torch
from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.data.augmentations import augment
from pipeline.data.images import ImageSet
from pipeline.training.engine.state import Training


def autocast(config: TrainConfig) -> torch.autocast:
    """Mixed precision where the config asks for it."""
    half = torch.float16 if config.precision == "fp16" else torch.bfloat16
    return torch.autocast(config.device, half, enabled=config.precision != "fp32")


def channels_last(inputs: Tensor) -> Tensor:
    """The same values with the channels of a pixel side by side, in which convolutions are fastest."""
    return inputs.contiguous(memory_format=torch.channels_last)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a device."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def has_room(device: torch.device, size: int) -> bool:
    """Whether so many bytes take less than half of what is free on a device."""
    return size < free_memory(device) / 2


def resident(images: np.ndarray, device: torch.device) -> Tensor:
    """Images on a GPU that has room for them, else in memory from which each batch is fetched."""
    tensor = torch.from_numpy(images)
    return tensor if device.type == "cuda" and not has_room(device, images.nbytes) else tensor.to(device)


class DeviceBatches:
    """Images resident on the device, or beside it; a batch is augmented and preprocessed there."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.forward: Any = training.model
        device = training.device
        self.images = resident(training.train.images, device)
        self.targets = torch.from_numpy(training.train.targets).to(device)
        self.samples = {kind: resident(part.images, device) for kind, part in training.samples.items()}

    def train(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The model's input made from these training images, augmented, and its targets: this process's part of them.

        Every process augments the whole batch, so that each draws the same random numbers.
        """
        training = self.training
        images = self.cut(self.images, batch)
        images = augment(images, training.config.augment, training.generator)
        images, targets = training.task.batch(images, self.targets[batch], training.generator)
        part = training.ranks.part(len(images))
        return channels_last(training.preprocess(images[part])), targets[part]

    def val(self, kind: str, batch: Tensor) -> Tensor:
        """The model's input for these validation samples."""
        return channels_last(self.training.preprocess(self.cut(self.samples[kind], batch)))

    def cut(self, images: Tensor, batch: Tensor) -> Tensor:
        """Images at these positions, on the device."""
        # index_select copies whole images, which indexing does pixel by pixel.
        return images.index_select(0, batch.to(images.device)).to(self.training.device)


class CachedFeatures:
    """Frozen features, computed once; only the head runs on them."""

    def __init__(self, training: Training) -> None:
        self.device, self.ranks = training.device, training.ranks
        self.forward = cast(Any, training.model).forward_head
        self.folder = tempfile.TemporaryDirectory(prefix="features-", ignore_cleanup_errors=True)
        self.targets = torch.from_numpy(training.train.targets).to(training.device)
        self.features = {"train": self._compute(training, training.train, "train")}
        self.features |= {kind: self._compute(training, part, kind) for kind, part in training.samples.items()}

    @torch.inference_mode()
    def _compute(self, training: Training, images: ImageSet, name: str) -> Tensor:
        training.model.eval()
        store: Tensor | None = None
        for batch in torch.arange(len(images)).split(training.config.batch_size):
            pixels = torch.from_numpy(images.images)[batch].to(training.device)
            with autocast(training.config):
                features = cast(Any, training.model).forward_features(channels_last(training.preprocess(pixels)))
            if store is None:
                store = self._allocate((len(images), *features.shape[1:]), features.dtype, name)
            store[batch] = features.to(store.device)
        assert store is not None
        return store

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype, name: str) -> Tensor:
        """A tensor on the device where it takes less than half of what is free, in a memory-mapped file otherwise."""
        size = math.prod(shape) * dtype.itemsize
        if has_room(self.device, size):
            return torch.empty(shape, dtype=dtype, device=self.device)
        file = Path(self.folder.name, name)
        return torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=dtype).view(shape)

    def train(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The head's input for this process's part of these training images, and its targets."""
        batch = batch[self.ranks.part(len(batch))]
        return self.val("train", batch), self.targets[batch]

    def val(self, kind: str, batch: Tensor) -> Tensor:
        """The head's input for these images."""
        features = self.features[kind]
        return features[batch.to(features.device)].to(self.device)


def create_batches(training: Training) -> DeviceBatches | CachedFeatures:
    """Cached features where the features are frozen and see the same images every epoch."""
    frozen = training.config.freeze == "features" and training.config.augment == "none"
    return CachedFeatures(training) if frozen and training.task.cacheable else DeviceBatches(training)
