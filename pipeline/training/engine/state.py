"""One training in progress, and what it is built from."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

import models
from pipeline.config import TrainConfig
from pipeline.data.images import Dataset, Splits
from pipeline.errors import InputError, first_line
from pipeline.evaluation import task
from pipeline.evaluation.task import Task
from pipeline.metrics.epoch import Epoch
from pipeline.registry.bundled.preprocess import Preprocess
from pipeline.training.engine.batch_norm import synchronise
from pipeline.training.engine.optim import create_optimizer, one_cycle
from pipeline.training.engine.ranks import ALONE, Ranks


@dataclass
class Begun:
    """How far an epoch is that has begun.

    Attributes:
        order: in which it takes the training images.
        step: the last step done.
        seen: images in these.
        totals: by name of a loss its sum over them.
        seconds: that they took.
    """

    order: Tensor
    step: int = 0
    seen: int = 0
    totals: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    @classmethod
    def of(cls, training: "Training") -> "Begun":
        """An epoch at its beginning, in a random order."""
        return cls(torch.randperm(len(training.train), generator=training.generator, device=training.device))

    def to(self, device: torch.device) -> "Begun":
        """The same on a device."""
        totals = {name: total.to(device) for name, total in self.totals.items()}
        return replace(self, order=self.order.to(device), totals=totals)

    def add(self, losses: Mapping[str, Tensor], *, images: int) -> None:
        """One more step: its losses, and how many images it saw."""
        for name, loss in losses.items():
            self.totals[name] = self.totals.get(name, torch.zeros_like(loss)) + loss * images
        self.seen += images
        self.step += 1

    def means(self, ranks: Ranks = ALONE) -> dict[str, float]:
        """The losses, as means over the images that these processes saw."""
        sums = ranks.total({**self.totals, "": self.order.new_tensor(self.seen)})
        seen = sums.pop("").item()
        return {name: total.item() / seen for name, total in sums.items()}


class Training:
    """One training in progress: what it learns, how far it is, and what continues it bit for bit.

    Args:
        config: what to do.
        splits: the images; only `train` and `val` are used.
        state: weights to start from, by parameter name; those of another shape in the head are left fresh.
        ranks: the processes that train it together.

    Attributes:
        model: the module, on the config's device.
        samples: what it is examined on after every epoch, made from the validation images.
        history: the epochs done.
        begun: the one that is being done.
        best: the epoch with the highest rank, its weights in `best_weights`.
    """

    def __init__(
        self, config: TrainConfig, splits: Splits, state: Mapping[str, Tensor] | None = None, ranks: Ranks = ALONE
    ) -> None:
        self.config, self.ranks = config, ranks
        self.device = torch.device(config.device)
        torch.manual_seed(config.seed)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)
        self.head = models.get(config.model).head
        self.task = create_task(config, splits.train.classes)
        self.model = build(config, num_classes=len(splits.train.classes))
        if state is not None:
            load_weights(self.model, state, head=self.head)
        if ranks.sync_batch_norm:
            synchronise(self.model, ranks)
        self.model.to(self.device).to(memory_format=torch.channels_last)
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
        self.begun: Begun | None = None
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
            "begun": asdict(self.begun) if self.begun else None,
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
        self.begun = Begun(**state["begun"]).to(self.device) if state.get("begun") else None
        if self.begun and not self.ranks.is_first:
            # The first process counts them.
            self.begun = Begun(self.begun.order, self.begun.step)
        self.history = [Epoch(*epoch) for epoch in state["history"]]


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
            cast(Any, model).forward_features(inputs)
        except (ValueError, TypeError, RuntimeError) as error:
            size = " x ".join(map(str, inputs.shape[2:]))
            raise InputError(f"{config.model} cannot work on images of {size} px: {first_line(error)}.") from error


def operations(config: TrainConfig, dataset: Dataset) -> float:
    """About how much there is to compute in a training: products and convolutions of the features, for all images."""
    # Only here: it brings triton along, which takes a second.
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        model = build(config, num_classes=len(dataset.classes)).eval()
        cast(Any, model).forward_features(preprocess(config)(torch.empty(1, *dataset.train.images.shape[1:])))
    return counter.get_total_flops() * (1 if config.freeze == "features" else config.epochs)


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
