"""Train the detector on MNIST, measure its speed beside torchvision's, and hold both against what is promised.

    python -m benchmarks.detection

The training is that of `python -m pipeline train`, recorded as any other, and continued or taken as it is where it has
been run before. Exit code 1 when a promise is not kept.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

import click
import pandas as pd
import torch
import torchvision
from torch import Tensor

from benchmarks import runs
from models.faster_rcnn import FasterRCNN
from pipeline.cli.process import run
from pipeline.data.images import Dataset
from pipeline.data.scenes import singles
from pipeline.ending import catch_signals
from pipeline.registry import bundle, loading

LEAST = {"test/accuracy": 0.985, "test/map_50": 0.97, "test/map": 0.80}
MAX_TRAINING_S = 1800
MAX_EPOCH_S = 240
MAX_INFERENCE_MS = 8
BATCH = 32


@click.command()
@runs.dataset_option
@runs.epochs_option
@runs.rounds_option(5)
def main(dataset: str, epochs: int | None, rounds: int) -> None:
    """Print both tables, and each promise that is broken."""
    catch_signals()
    images = runs.load(dataset)
    run = runs.finished("faster_rcnn", images, **({"epochs": epochs} if epochs else {}))
    metrics = run.data.metrics
    print(
        f"\nfaster_rcnn on {images.name}, seed 0, after {metrics['time/train_s']:.0f} s of training: accuracy, F1 and "
        f"loss\non the {len(images.test):,} single test images, average precision and recall on scenes of them.\n"
    )
    names = ("test/accuracy", "test/f1", "test/loss", "test/map", "test/map_50", "test/map_75", "test/mar")
    scores = pd.DataFrame([{name: f"{metrics[name]:.4f}" for name in names}])
    print(scores.to_markdown(index=False, disable_numparse=True))

    with tempfile.TemporaryDirectory() as folder:
        weights = loading.download_weights(f"runs:/{run.info.run_id}/model", Path(folder))
        state = bundle.read_weights(weights, model="faster_rcnn").state
    print(
        f"\nMedian of {rounds} rounds in turn on {torch.get_num_threads()} threads, single images in batches of "
        f"{BATCH} (torchvision's\nas it comes: of 4), answers in fp32, residual blocks with the weights just tested.\n"
    )
    table = speed(images, state, rounds)
    print(table.to_markdown(index=False, floatfmt=("", ".2f", ".2f", ".0f")))

    ours = table.iloc[-1]
    epoch_s = ours["step, ms an image"] * 10_000 / 1000
    print(f"\nAn epoch over 10,000 single images: {epoch_s:.0f} s.")
    broken = [
        f"{name} is {metrics[name]:.4f}, {least} is promised." for name, least in LEAST.items() if metrics[name] < least
    ]
    limits = [
        ("The training took", metrics["time/train_s"], MAX_TRAINING_S, "s"),
        ("An epoch over 10,000 single images takes", epoch_s, MAX_EPOCH_S, "s"),
        ("An answer takes", ours["answer, ms an image"], MAX_INFERENCE_MS, "ms an image"),
    ]
    broken += [
        f"{what} {value:.0f} {unit}, at most {most} are promised." for what, value, most, unit in limits if value > most
    ]
    sys.exit("\n".join(broken) or 0)


def speed(images: Dataset, state: Mapping[str, Tensor], rounds: int) -> pd.DataFrame:
    """Milliseconds an image of a training step and of an answer, for torchvision's detector and the steps towards ours.

    Args:
        state: trained weights of the default detector.
    """
    pixels = torch.from_numpy(images.train.images[:BATCH])
    targets = singles(pixels, torch.from_numpy(images.train.targets[:BATCH]))
    inputs = ((pixels[:, None].float() / 255 - 0.1307) / 0.3081).contiguous(memory_format=torch.channels_last)
    operator = FasterRCNN()
    operator.roi_heads.box_roi_pool = torchvision.ops.MultiScaleRoIAlign(["0"], 7, sampling_ratio=2)
    rivals = {
        "torchvision's mobilenet_v3_large_320_fpn as it comes": AsItComes(),
        "the same at 4-fold size with fewer regions": FasterRCNN(backbone="mobilenet_v3_large_320_fpn"),
        "residual blocks, torchvision's RoIAlign": operator,
        "residual blocks, RoIAlign as matrix products": FasterRCNN(),
        "residual blocks in bf16, the default": FasterRCNN(),
    }
    steps, answers = {}, {}
    for name, model in rivals.items():
        few = 4 if isinstance(model, AsItComes) else BATCH
        bf16 = "bf16" in name
        if name.startswith("residual"):
            model.load_state_dict(state)
        model.to(memory_format=torch.channels_last)
        steps[name] = (train_step(model, inputs[:few], targets[:few], bf16=bf16), few)
        answers[name] = (answer(model, inputs[:few]), few)
    return (
        pd.DataFrame({"step, ms an image": in_turn(steps, rounds), "answer, ms an image": in_turn(answers, rounds)})
        .assign(ratio=lambda table: table["step, ms an image"].iloc[0] / table["step, ms an image"])
        .rename_axis("detector")
        .reset_index()
    )


class AsItComes(torch.nn.Module):
    """torchvision's detector with its own preprocessing, resizing to 320 px and more, behind our interface."""

    def __init__(self) -> None:
        super().__init__()
        self.detector = torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=11
        )

    def forward(self, x: Tensor, targets: Tensor | None = None) -> object:
        truth = targets if targets is None else [{"boxes": t[:, :4].float(), "labels": t[:, 4] + 1} for t in targets]
        return self.detector(list(x.expand(-1, 3, -1, -1)), truth)


def train_step(model: torch.nn.Module, inputs: Tensor, targets: Tensor, *, bf16: bool) -> Callable[[], None]:
    """One step of the optimizer."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step() -> None:
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = sum(model(inputs, targets).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def answer(model: torch.nn.Module, inputs: Tensor) -> Callable[[], None]:
    """One batch of detections."""

    def infer() -> None:
        model.eval()
        with torch.inference_mode():
            model(inputs)

    return infer


def in_turn(work: Mapping[str, tuple[Callable[[], None], int]], rounds: int) -> pd.Series:
    """Median milliseconds an image of each, measured A B A B after one round of warming up."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, (step, images) in work.items():
            started = time.perf_counter()
            step()
            times[name].append((time.perf_counter() - started) * 1000 / images)
    return pd.Series({name: median(measured[1:]) for name, measured in times.items()})


if __name__ == "__main__":
    run(main, "benchmarks.detection")
