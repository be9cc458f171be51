"""What each trick of the recipes brings: the recipe as it is, and the same training without it.

    python -m benchmarks.ablation --dataset mnist

Accuracy is that on the validation images; the test images have no part in it.
"""

from dataclasses import replace

import click
import pandas as pd
import torch

from benchmarks import runs
from pipeline import config
from pipeline.cli.process import run
from pipeline.data.images import Dataset
from pipeline.data.splits import default_val_size, split
from pipeline.ending import catch_signals
from pipeline.training.engine.loop import fit
from pipeline.training.engine.state import Training

# Architecture, the trick, and what a training without it is given.
WITHOUT = [
    ("mlp", "random shifts", {"augment": "none"}),
    ("cnn", "random affine maps", {"augment": "none"}),
    ("cnn", "affine maps beyond shifts", {"augment": "shift"}),
    ("cnn", "label smoothing", {"task_args": {"label_smoothing": 0.0}}),
    ("cnn", "weight decay", {"weight_decay": 0.0}),
    ("cnn", "bf16", {"precision": "fp32"}),
    ("vit", "large patches: 4 px, a third of the epochs", {"model_args": {"patch_size": 4}, "epochs": 7}),
    ("vit", "Muon: AdamW", {"optimizer": "adamw", "lr": 2e-3}),
    ("vit", "bf16", {"precision": "fp32"}),
    ("alexnet", "Muon: AdamW", {"optimizer": "adamw", "lr": 5e-4}),
    ("alexnet", "a small head and its initialisation: torchvision's", {"model_args": {"pool": 6, "hidden": 4096}}),
    ("mobilenet_v2", "first stride 1: torchvision's 2", {"model_args": {"first_stride": 2}}),
    ("mobilenet_v2", "fp32: bf16", {"precision": "bf16"}),
]
ARCHITECTURES = list(dict.fromkeys(model for model, _, _ in WITHOUT))


@click.command()
@runs.dataset_option
@runs.models_option(ARCHITECTURES)
@click.option(
    "--limit", type=click.IntRange(0), default=5_000, show_default=True, help="Train on so many images; 0: all."
)
@runs.epochs_option
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="How often each is trained.")
def main(dataset: str, names: list[str], limit: int, epochs: int | None, seeds: int) -> None:
    """Print the table."""
    catch_signals()
    images = runs.load(dataset)
    quick = {"epochs": epochs} if epochs else {}
    rows = []
    for model in names:
        variants = {"the recipe": {}} | {f"without {trick}": given for of, trick, given in WITHOUT if of == model}
        configs = {
            name: configured(model, images, limit=limit, **{**given, **quick}) for name, given in variants.items()
        }
        for name, resolved in configs.items():
            if name != "the recipe" and resolved == configs["the recipe"]:
                click.echo(f"{model}, {name}: left out, this machine trains so anyway", err=True)
                continue
            results = [trained(replace(resolved, seed=seed), images) for seed in range(seeds)]
            accuracy, seconds = pd.DataFrame(results).mean()
            rows.append((model, name, f"{accuracy:.2%}", f"{seconds:.1f} s"))
            click.echo(f"{model}, {name}: {accuracy:.2%}", err=True)
    splits = split(images, val_size=default_val_size(images), limit=limit)
    print(f"\nTrained on {len(splits.train):,} images of {images.name} on {torch.get_num_threads()} threads, ", end="")
    print(f"{seeds} seed{'s' if seeds > 1 else ''}; accuracy on {len(splits.val):,} validation images.\n")
    columns = ["architecture", "training", "val/accuracy", "training time"]
    print(pd.DataFrame(rows, columns=columns).to_markdown(index=False, disable_numparse=True))


def configured(
    model: str,
    images: Dataset,
    *,
    limit: int,
    model_args: dict | None = None,
    task_args: dict | None = None,
    **overrides: object,
) -> config.TrainConfig:
    """The recipe with what differs."""
    return config.resolve(
        model,
        images,
        weights="none",
        overrides=overrides,
        limit=limit,
        device=runs.DEVICE,
        model_args=model_args,
        task_args=task_args,
    )


def trained(resolved: config.TrainConfig, images: Dataset) -> tuple[float, float]:
    """Validation accuracy of the best epoch, and seconds of training."""
    training = Training(resolved, split(images, val_size=resolved.val_size, limit=resolved.limit))
    for _ in fit(training):
        pass
    return training.best.metrics["val/accuracy"], training.seconds


if __name__ == "__main__":
    run(main, "benchmarks.ablation")
