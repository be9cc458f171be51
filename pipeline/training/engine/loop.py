"""The only training loop. It knows nothing of MLflow, files or terminals: whoever iterates decides what to do."""

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.config import TrainConfig
from pipeline.ending import whole
from pipeline.errors import PipelineError
from pipeline.metrics.epoch import Epoch
from pipeline.training.engine.batches import CachedFeatures, DeviceBatches, autocast, channels_last, create_batches
from pipeline.training.engine.gradients import gradients
from pipeline.training.engine.state import Begun, Training, get_rng, set_rng, train_mode

REPORT_EVERY = 10


def fit(
    training: Training, *, report: Callable[[int, int, float], None] = lambda epoch, step, loss: None
) -> Iterator[Epoch]:
    """Train until the config's number of epochs is reached, yielding after each.

    Args:
        training: where to begin; it is changed in place, and its state is consistent whenever this yields, and when
            it is interrupted within an epoch.
        report: told the epoch, the step within it and the mean loss so far, every few steps.

    Raises:
        Diverged: the loss is no longer a finite number.
    """
    config, ranks, optimizer, scaler = training.config, training.ranks, training.optimizer, training.scaler
    # TF32 where there are matrix units for it: training does not need the last bits of a product.
    torch.set_float32_matmul_precision("high")
    started = time.perf_counter()
    feed = create_batches(training)
    compute = gradients(training, feed.forward)
    parameters = [parameter for parameter in training.model.parameters() if parameter.requires_grad]

    for index in range(len(training.history) + 1, config.epochs + 1):
        train_mode(training.model, config.freeze, training.head)
        set_rng(training.rng)
        ranks.seed(config.seed, index)
        with whole():
            begun = training.begun = training.begun or Begun.of(training)
        earlier, training_started = begun.seconds, time.perf_counter()
        try:
            # Batches that differ by one image at most: no tiny last one, on which batch normalisation would fail.
            for step, batch in enumerate(begun.order.tensor_split(training.steps), start=1):
                if step <= begun.step:
                    continue
                with whole():
                    inputs, targets = feed.train(batch)
                    losses = compute(inputs, targets)
                    ranks.average_gradients(parameters, images=len(inputs))
                    if config.clip_norm:
                        scaler.unscale_(optimizer)
                        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
                    scaler.step(optimizer)
                    scaler.update()
                    optimizer.zero_grad()
                    training.schedule.step()
                    begun.add(losses, images=len(batch[ranks.part(len(batch))]))
                # The others learn of it at the end of the epoch, all at once.
                if ranks.is_first and (step % REPORT_EVERY == 0 or step == training.steps):
                    mean = begun.means()["loss"]
                    check_finite(mean, config, index)
                    report(index, step, mean)
        finally:
            training.rng = get_rng(training.device)
            begun.seconds = earlier + time.perf_counter() - training_started

        ranks.average_statistics(training.model)
        means = begun.means(ranks)
        check_finite(means["loss"], config, index)
        scores = training.task.score(predict(training, feed), training.samples)
        check_finite(scores["loss"], config, index)
        with whole():
            epoch = Epoch(
                index,
                {
                    **{f"train/{name}": mean for name, mean in means.items()},
                    **{f"val/{name}": value for name, value in scores.items()},
                    "train/lr": float(training.schedule.get_last_lr()[0]),
                    "train/images_per_second": len(begun.order) / begun.seconds,
                },
                earlier + time.perf_counter() - started,
            )
            training.begun = None
            training.history.append(epoch)
            if training.best is epoch:
                training.best_weights = {name: value.clone() for name, value in training.model.state_dict().items()}
        yield epoch
        started = time.perf_counter()


class Diverged(PipelineError):
    """A training's loss is no longer a finite number, and would not be next time."""


def check_finite(loss: float, config: TrainConfig, epoch: int) -> None:
    """Stop a training that has diverged.

    Raises:
        Diverged: the loss is infinite or not a number.
    """
    if not math.isfinite(loss):
        raise Diverged(
            f"The loss of {config.model} became {loss} in epoch {epoch}: "
            f"try a smaller lr than {config.lr:g}, or precision=fp32."
        )


@torch.inference_mode()
def predict(training: Training, feed: DeviceBatches | CachedFeatures) -> dict[str, np.ndarray]:
    """Predictions on the validation samples with the weights as they are; each process makes its part of them."""
    training.model.eval()

    def answer(kind: str) -> np.ndarray:
        batches = torch.arange(len(training.samples[kind])).split(training.config.batch_size)
        own = batches[training.ranks.rank :: training.ranks.count]
        parts = [training.task.predict(feed.forward, feed.val(kind, batch)).cpu().numpy() for batch in own]
        return np.concatenate(training.ranks.gather(parts))

    with autocast(training.config):
        return {kind: answer(kind) for kind in training.samples}


@torch.inference_mode()
def predict_images(training: Training, images: np.ndarray) -> np.ndarray:
    """Predictions of the model as it is on uint8 images (N, H, W), in float32 as a registered model computes them."""
    parts = [training.task.predict(training.model, batch) for batch in inputs(training, images)]
    return torch.cat(parts).cpu().numpy()


def inputs(training: Training, images: np.ndarray) -> Iterator[Tensor]:
    """The input of the model for uint8 images (N, H, W), in batches, to be computed in float32."""
    torch.set_float32_matmul_precision("highest")
    training.model.eval()
    for batch in torch.from_numpy(images).split(training.config.batch_size):
        yield channels_last(training.preprocess(batch.to(training.device)))
