"""The plain loop a student writes, to measure the pipeline against: DataLoader, fp32, Adam, 224 px for large networks.

    python -m benchmarks.reference --model cnn --dataset mnist --epochs 1

It is trained on the pipeline's training images and examined on its validation images.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import click
import idx2numpy
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms import Compose, Grayscale, Normalize, Resize, ToTensor

import models
from benchmarks import runs
from pipeline.cli.process import run
from pipeline.data.images import Dataset
from pipeline.data.scenes import ink_boxes
from pipeline.data.splits import default_val_size, split
from pipeline.ending import catch_signals

BATCH_SIZE = 64
ROUND_SECONDS = 2
# What torchvision's networks are made for; the others see MNIST's 28 px.
LARGE = ("alexnet", "vgg16", "mobilenet_v2")


@click.command()
@click.option("--model", type=click.Choice([n for n in models.names() if n != "faster_rcnn"]), default="cnn")
@runs.dataset_option
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True)
def main(model: str, dataset: str, epochs: int) -> None:
    """Print accuracy and time after each epoch."""
    catch_signals()
    images = runs.load(dataset)
    with tempfile.TemporaryDirectory() as folder:
        write_mnist(images, Path(folder))
        for epoch, (accuracy, seconds) in enumerate(train(model, Path(folder), epochs), start=1):
            print(f"epoch {epoch}: {accuracy:.2%} of the validation images, {seconds:.1f} s since the start")


def train(name: str, folder: Path, epochs: int) -> Iterator[tuple[float, float]]:
    """Train on the files of `write_mnist`.

    Yields:
        accuracy on the validation images after each epoch, and the seconds of training and validation so far.
    """
    torch.manual_seed(0)
    started = time.perf_counter()
    network = build(name)
    training, validation = (loader(name, folder, train=part) for part in (True, False))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for _ in range(epochs):
        for _ in steps(name, network, optimizer, training):
            pass
        network.eval()
        with torch.no_grad():
            right = sum((network(images).argmax(1) == labels).sum().item() for images, labels in validation)
        yield right / len(validation.dataset), time.perf_counter() - started


def steps(name: str, network: nn.Module, optimizer: torch.optim.Optimizer, batches: DataLoader) -> Iterator[int]:
    """One epoch, yielding the number of images after each step of the optimizer."""
    network.train()
    for images, labels in batches:
        if name == "faster_rcnn":
            loss = sum(network(list(images), boxes(images, labels)).values())
        else:
            loss = nn.functional.cross_entropy(network(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        yield len(images)


def plain_rates(name: str, folder: Path) -> Iterator[float]:
    """Images a second of the loop, each measured over at least one step and a few seconds; the first is a warm-up."""
    network = build(name)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    batches = loader(name, folder, train=True)
    started, seen = time.perf_counter(), 0
    while True:
        for images in steps(name, network, optimizer, batches):
            seen += images
            elapsed = time.perf_counter() - started
            if elapsed > ROUND_SECONDS:
                yield seen / elapsed
                started, seen = time.perf_counter(), 0


def build(name: str) -> nn.Module:
    """The architecture with fresh weights at the size torchvision gives it; the small ones as they are here."""
    if name == "faster_rcnn":
        return torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
            weights=None, weights_backbone=None, num_classes=11
        )
    return models.get(name).build(num_classes=10)


def loader(name: str, folder: Path, *, train: bool) -> DataLoader:
    """Batches of normalised images, or of images enlarged to 224 px in three channels."""
    if name in LARGE:
        transform = Compose([Resize(224), Grayscale(3), ToTensor()])
    elif name == "faster_rcnn":
        transform = ToTensor()
    else:
        transform = Compose([ToTensor(), Normalize((0.1307,), (0.3081,))])
    images = torchvision.datasets.MNIST(str(folder), train=train, transform=transform)
    # A detector's and VGG16's activations at full size would need tens of gigabytes at more.
    return DataLoader(images, batch_size=8 if name in ("faster_rcnn", "vgg16") else BATCH_SIZE, shuffle=train)


def boxes(images: Tensor, labels: Tensor) -> list[dict[str, Tensor]]:
    """The box around each image's ink, as torchvision's detectors want it."""
    found = ink_boxes(images.squeeze(1) * 255).float()
    return [{"boxes": box[None], "labels": label[None] + 1} for box, label in zip(found, labels, strict=True)]


def write_mnist(images: Dataset, folder: Path) -> None:
    """Write the pipeline's training and validation images where torchvision looks for MNIST's two files."""
    splits = split(images, val_size=default_val_size(images), limit=0)
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, part in (("train", splits.train), ("t10k", splits.val)):
        idx2numpy.convert_to_file(str(raw / f"{name}-images-idx3-ubyte"), part.images)
        idx2numpy.convert_to_file(str(raw / f"{name}-labels-idx1-ubyte"), part.targets.astype("uint8"))


if __name__ == "__main__":
    run(main, "benchmarks.reference")
