"""The only training loop. It knows nothing of MLflow, files or terminals: whoever iterates decides what to do."""

import math
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

import models
from pipeline.config import TrainConfig
from pipeline.data.augmentations import augment
from pipeline.data.images import Dataset, ImageSet, Splits
from pipeline.errors import InputError, PipelineError, first_line
from pipeline.evaluation import task
from pipeline.evaluation.task import Task
from pipeline.metrics.epoch import Epoch
from pipeline.registry.bundled.preprocess import Preprocess

REPORT_EVERY = 10
SGD_MOMENTUM = 0.9


class Training:
    """One training in progress: what it learns, how far it is, and what continues it bit for bit.

    Args:
        config: what to do.
        splits: the images; only `train` and `val` are used.
        state: weights to start from, by parameter name; those of another shape in the head are left fresh.

    Attributes:
        model: the module, on the config's device.
        samples: what it is examined on after every epoch, made from the validation images.
        history: the epochs done.
        best: the epoch with the highest rank, its weights in `best_weights`.
    """

    def __init__(self, config: TrainConfig, splits: Splits, state: Mapping[str, Tensor] | None = None) -> None:
        self.config = config
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.head = models.get(config.model).head
        self.task = create_task(config, splits.train.classes)
        self.model = build(config, num_classes=len(splits.train.classes))
        if state is not None:
            load_weights(self.model, state, head=self.head)
        self.model.to(self.device, memory_format=torch.channels_last)
        self.preprocess = preprocess(config).to(self.device)
        self.train, self.val = splits.train, splits.val
        self.samples = self.task.samples(splits.val)
        self.steps = math.ceil(len(splits.train) / config.batch_size)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad = config.freeze == "none" or name.startswith(f"{self.head}.")
        self.optimizer = create_optimizer(config, self.model)
        self.schedule = LambdaLR(
            self.optimizer, partial(one_cycle, total=config.epochs * self.steps, warmup=config.warmup)
        )
        # Gradients in fp16 are scaled up, so that small ones do not vanish; without fp16 it does nothing.
        self.scaler = torch.amp.GradScaler(config.device, enabled=config.precision == "fp16")
        # Kept here between epochs, so that nothing else that draws random numbers changes the training.
        self.rng = get_rng(self.device)
        self.history: list[Epoch] = []
        self.best_weights: dict[str, Tensor] = {}

    @property
    def best(self) -> Epoch:
        return max(self.history, key=lambda epoch: epoch.rank)

    @property
    def seconds(self) -> float:
        """Time of training and validation so far."""
        return sum(epoch.seconds for epoch in self.history)

    def use_best(self) -> nn.Module:
        """Give the model the weights of the best epoch and return it."""
        self.model.load_state_dict(self.best_weights)
        return self.model.eval()

    def state_dict(self) -> dict[str, Any]:
        """All that `load_state_dict` needs to go on as if nothing had happened, in plain types and tensors."""
        return {
            "model": self.model.state_dict(),
            "best_weights": self.best_weights,
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "scaler": self.scaler.state_dict(),
            # The generator draws the order of the data and the augmentation, the global ones dropout.
            "generator": self.generator.get_state(),
            "rng": self.rng,
            "history": [(epoch.index, dict(epoch.metrics), epoch.seconds) for epoch in self.history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue where `state_dict` was taken."""
        self.model.load_state_dict(state["model"])
        self.best_weights = state["best_weights"]
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.scaler.load_state_dict(state["scaler"])
        self.generator.set_state(state["generator"])
        self.rng = state["rng"]
        self.history = [Epoch(*epoch) for epoch in state["history"]]


def fit(
    training: Training, *, report: Callable[[int, int, float], None] = lambda epoch, step, loss: None
) -> Iterator[Epoch]:
    """Train until the config's number of epochs is reached, yielding after each.

    Args:
        training: where to begin; it is changed in place, and its state is consistent whenever this yields.
        report: told the epoch, the step within it and the mean loss so far, every few steps.

    Raises:
        PipelineError: the loss is no longer a finite number.
    """
    config, optimizer, scaler = training.config, training.optimizer, training.scaler
    # TF32 where there are matrix units for it: training does not need the last bits of a product.
    torch.set_float32_matmul_precision("high")
    started = time.perf_counter()
    feed = create_feed(training)
    parameters = [parameter for parameter in training.model.parameters() if parameter.requires_grad]

    for index in range(len(training.history) + 1, config.epochs + 1):
        train_mode(training.model, config.freeze, training.head)
        set_rng(training.rng)
        order = torch.randperm(len(training.train), generator=training.generator, device=training.device)
        totals: dict[str, Tensor] = defaultdict(float)
        seen = 0
        training_started = time.perf_counter()
        # Batches that differ by one image at most: no tiny last one, on which batch normalisation would fail.
        for step, batch in enumerate(order.tensor_split(training.steps), start=1):
            inputs, targets = feed.train(batch)
            with autocast(config):
                losses = training.task.loss(feed.forward, inputs, targets)
            scaler.scale(losses["loss"]).backward()
            if config.clip_norm:
                scaler.unscale_(optimizer)
                nn.utils.clip_grad_norm_(parameters, config.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            training.schedule.step()
            for name, loss in losses.items():
                totals[name] += loss.detach() * len(batch)
            seen += len(batch)
            if step % REPORT_EVERY == 0 or step == training.steps:
                mean = totals["loss"].item() / seen
                check_finite(mean, config, index)
                report(index, step, mean)
        training_seconds = time.perf_counter() - training_started
        training.rng = get_rng(training.device)

        scores = training.task.score(predict(training, feed), training.samples)
        check_finite(scores["loss"], config, index)
        epoch = Epoch(
            index,
            {
                **{f"train/{name}": total.item() / seen for name, total in totals.items()},
                **{f"val/{name}": value for name, value in scores.items()},
                "train/lr": training.schedule.get_last_lr()[0],
                "train/images_per_second": seen / training_seconds,
            },
            time.perf_counter() - started,
        )
        training.history.append(epoch)
        if training.best is epoch:
            training.best_weights = {name: value.clone() for name, value in training.model.state_dict().items()}
        yield epoch
        started = time.perf_counter()


def check_finite(loss: float, config: TrainConfig, epoch: int) -> None:
    """Stop a training that has diverged.

    Raises:
        PipelineError: the loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise PipelineError(
            f"The loss of {config.model} became {loss} in epoch {epoch}: "
            f"try a smaller lr than {config.lr:g}, or precision=fp32."
        )


@torch.inference_mode()
def predict(training: Training, feed: "Feed") -> dict[str, np.ndarray]:
    """Predictions on the validation samples with the weights as they are."""
    training.model.eval()

    def answer(kind: str) -> np.ndarray:
        batches = torch.arange(len(training.samples[kind])).split(training.config.batch_size)
        parts = [training.task.predict(feed.forward, feed.val(kind, batch)) for batch in batches]
        return torch.cat(parts).cpu().numpy()

    with autocast(training.config):
        return {kind: answer(kind) for kind in training.samples}


@torch.inference_mode()
def predict_images(training: Training, images: np.ndarray) -> np.ndarray:
    """Predictions of the model as it is on uint8 images (N, H, W), in float32 as a registered model computes them."""
    torch.set_float32_matmul_precision("highest")
    training.model.eval()
    batches = torch.from_numpy(images).split(training.config.batch_size)
    inputs = (training.preprocess(batch.to(training.device)) for batch in batches)
    parts = [training.task.predict(training.model, channels_last(batch)) for batch in inputs]
    return torch.cat(parts).cpu().numpy()


# --- Parts ---------------------------------------------------------------------------------------------------------


def build(config: TrainConfig, *, num_classes: int) -> nn.Module:
    """The config's architecture with fresh weights.

    Raises:
        InputError: the constructor refuses the arguments.
    """
    arguments = config.build_arguments(num_classes=num_classes)
    try:
        return models.get(config.model).build(**arguments)
    except (ValueError, TypeError, RuntimeError, ZeroDivisionError) as error:
        values = ", ".join(f"{name}={value}" for name, value in arguments.items())
        raise InputError(f"{config.model} cannot be built with {values}: {first_line(error)}.") from error


def create_task(config: TrainConfig, classes: tuple[str, ...]) -> Task:
    """The config's task.

    Raises:
        InputError: it refuses the arguments.
    """
    try:
        return task.create(config.task, classes=classes, task_args=config.task_args)
    except (ValueError, TypeError) as error:
        values = ", ".join(f"{name}={value}" for name, value in config.task_args.items())
        raise InputError(f"{config.model} cannot be trained with task_args {values}: {first_line(error)}.") from error


def check_build(config: TrainConfig, dataset: Dataset) -> None:
    """Build task and architecture, and run the features without memory or arithmetic, on torch's meta device.

    Raises:
        InputError: an argument is refused, or the image is too small for the layers.
    """
    create_task(config, dataset.classes)
    with torch.device("meta"):
        model = build(config, num_classes=len(dataset.classes)).eval()
        inputs = preprocess(config)(torch.empty(2, *dataset.train.images.shape[1:]))
        try:
            # Without the head, whose work may depend on what the features hold.
            model.forward_features(inputs)
        except (ValueError, TypeError, RuntimeError) as error:
            size = " x ".join(map(str, inputs.shape[2:]))
            raise InputError(f"{config.model} cannot work on images of {size} px: {first_line(error)}.") from error


def one_cycle(step: int, *, total: int, warmup: float) -> float:
    """Factor of the learning rate: a cosine up from 1/25, then one down to almost nothing.

    Smith and Topin, "Super-Convergence", 2018, arXiv:1708.07120, with the constants that torch's OneCycleLR has; that
    one divides by zero in trainings of very few steps.
    """
    peak = max(1.0, warmup * total - 1)
    if step <= peak:
        low, progress = 1 / 25, step / peak
    else:
        low, progress = 1 / 25 / 1e4, max(0.0, 1 - (step - peak) / max(1.0, total - 1 - peak))
    return low + (1 - low) * (1 - math.cos(math.pi * progress)) / 2


def preprocess(config: TrainConfig) -> Preprocess:
    """What turns raw images into the input the config asks for."""
    return Preprocess(image_size=config.image_size, in_channels=config.in_channels, mean=config.mean, std=config.std)


def load_weights(model: nn.Module, state: Mapping[str, Tensor], *, head: str) -> None:
    """Copy weights by name; where the head has another shape, its fresh weights stay.

    Raises:
        InputError: the weights belong to another architecture.
    """
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    differing = sorted(name for name in own if name not in fitting and not name.startswith(f"{head}."))
    if differing:
        raise InputError(
            f"These weights do not fit the architecture: {len(differing)} of its {len(own)} tensors are absent or of "
            f"another shape, {differing[0]} among them; check model, model_args and image_size."
        )
    model.load_state_dict(fitting, strict=False)


def create_optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.Optimizer:
    """The config's optimizer over what trains; biases and normalisations are spared the weight decay."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=SGD_MOMENTUM, nesterov=True, fused=True)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[config.optimizer](groups, lr=config.lr, fused=True)


def train_mode(model: nn.Module, freeze: str, head: str) -> None:
    """Training mode for what trains; frozen features keep their statistics and drop nothing."""
    model.train(freeze == "none")
    model.get_submodule(head).train()


def get_rng(device: torch.device) -> dict[str, Tensor]:
    """State of the global random number generators that dropout draws from, on CPU and CUDA."""
    states = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_rng(states: Mapping[str, Tensor]) -> None:
    """Set the global random number generators to an earlier state."""
    torch.set_rng_state(states["cpu"])
    if "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"])


def autocast(config: TrainConfig) -> torch.autocast:
    """Mixed precision where the config asks for it."""
    half = torch.float16 if config.precision == "fp16" else torch.bfloat16
    return torch.autocast(config.device, half, enabled=config.precision != "fp32")


def channels_last(inputs: Tensor) -> Tensor:
    return inputs.contiguous(memory_format=torch.channels_last)


# --- Feeds: what a batch is made from ------------------------------------------------------------------------------


class Feed:
    """Images resident on the device; a batch is cut, augmented and preprocessed there."""

    def __init__(self, training: Training) -> None:
        self.training = training
        self.forward = training.model
        device = training.device
        self.images = torch.from_numpy(training.train.images).to(device)
        self.targets = torch.from_numpy(training.train.targets).to(device)
        self.samples = {kind: torch.from_numpy(part.images).to(device) for kind, part in training.samples.items()}

    def train(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The model's input made from these training images, augmented, and its targets."""
        training = self.training
        # index_select copies whole images, which indexing does pixel by pixel.
        images = augment(self.images.index_select(0, batch), training.config.augment, training.generator)
        images, targets = training.task.batch(images, self.targets[batch], training.generator)
        return channels_last(training.preprocess(images)), targets

    def val(self, kind: str, batch: Tensor) -> Tensor:
        """The model's input for these validation samples."""
        return channels_last(self.training.preprocess(self.samples[kind][batch.to(self.training.device)]))


class CachedFeed:
    """Frozen features, computed once; only the head runs on them."""

    def __init__(self, training: Training) -> None:
        self.device = training.device
        self.forward = training.model.forward_head
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
                features = training.model.forward_features(channels_last(training.preprocess(pixels)))
            if store is None:
                store = self._allocate((len(images), *features.shape[1:]), features.dtype, name)
            store[batch] = features.to(store.device)
        assert store is not None
        return store

    def _allocate(self, shape: tuple[int, ...], dtype: torch.dtype, name: str) -> Tensor:
        """A tensor on the device where it takes less than half of what is free, in a memory-mapped file otherwise."""
        size = math.prod(shape) * dtype.itemsize
        free = torch.cuda.mem_get_info()[0] if self.device.type == "cuda" else psutil.virtual_memory().available
        if size < free / 2:
            return torch.empty(shape, dtype=dtype, device=self.device)
        file = Path(self.folder.name, name)
        return torch.from_file(str(file), shared=True, size=math.prod(shape), dtype=dtype).view(shape)

    def train(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        """The head's input for these training images, and its targets."""
        return self.val("train", batch), self.targets[batch]

    def val(self, kind: str, batch: Tensor) -> Tensor:
        """The head's input for these images."""
        features = self.features[kind]
        return features[batch.to(features.device)].to(self.device)


def create_feed(training: Training) -> Feed | CachedFeed:
    """Cached features where the features are frozen and see the same images every epoch."""
    frozen = training.config.freeze == "features" and training.config.augment == "none"
    return CachedFeed(training) if frozen and training.task.cacheable else Feed(training)
