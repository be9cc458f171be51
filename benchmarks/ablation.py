"""What each trick of the recipes brings: the same training without it, in turn with the recipe as it is.

    python -m benchmarks.ablation --dataset mnist

Accuracy is that on the validation images; the test images have no part in it.
"""

import click
import pandas as pd
import torch

from benchmarks import runs
from pipeline import cli, config, data, engine
from pipeline.files import default_root

# Architecture, the trick, and what a training without it is given.
WITHOUT = [
    ("mlp", "random shifts", {"augment": "none"}),
    ("cnn", "random affine maps", {"augment": "none"}),
    ("cnn", "affine maps beyond shifts", {"augment": "shift"}),
    ("cnn", "label smoothing", {"task_args": {"label_smoothing": 0.0}}),
    ("cnn", "weight decay", {"weight_decay": 0.0}),
    ("cnn", "bf16", {"precision": "fp32"}),
    ("vit", "large patches: 4 px, a third of the epochs", {"model_args": {"patch_size": 4}, "epochs": 8}),
    ("vit", "bf16", {"precision": "fp32"}),
    ("alexnet", "a small head: torchvision's 4096 units", {"model_args": {"pool": 6, "hidden": 4096}}),
    ("mobilenet_v2", "first stride 1: torchvision's 2", {"model_args": {"first_stride": 2}}),
    ("mobilenet_v2", "fp32: bf16", {"precision": "bf16"}),
]
ARCHITECTURES = list(dict.fromkeys(model for model, _, _ in WITHOUT))


@click.command()
@click.option("--dataset", default="mnist", show_default=True, help="A data set's name, or a folder of IDX files.")
@click.option("--models", "chosen", default=",".join(ARCHITECTURES), help="Architectures, comma-separated.")
@click.option("--limit", default=10_000, show_default=True, help="Train on so many images; 0: all.")
@click.option("--epochs", type=int, help="Passes over the training images, for a quick look; the recipe's by default.")
@click.option("--seeds", default=1, show_default=True, help="How often each is trained.")
def main(dataset: str, chosen: str, limit: int, epochs: int | None, seeds: int) -> None:
    """Print the table."""
    names = runs.split_names(chosen, ARCHITECTURES)
    images = data.load(dataset, default_root())
    quick = {"epochs": epochs} if epochs else {}
    rows = []
    for model in names:
        variants = [("the recipe", {})] + [(f"without {trick}", given) for of, trick, given in WITHOUT if of == model]
        for name, given in variants:
            results = [trained(model, images, limit=limit, seed=seed, **{**given, **quick}) for seed in range(seeds)]
            accuracy, seconds = pd.DataFrame(results).mean()
            rows.append((model, name, f"{accuracy:.2%}", f"{seconds:.1f} s"))
            click.echo(f"{model}, {name}: {accuracy:.2%}", err=True)
    splits = data.split(images, val_size=data.default_val_size(images), limit=limit)
    print(
        f"\nTrained on {len(splits.train):,} images of {images.name} with {torch.get_num_threads()} threads, ", end=""
    )
    print(f"{seeds} seed{'s' if seeds > 1 else ''}; accuracy on {len(splits.val):,} validation images.\n")
    columns = ["architecture", "training", "val/accuracy", "training time"]
    print(pd.DataFrame(rows, columns=columns).to_markdown(index=False, disable_numparse=True))


def trained(
    model: str,
    images: data.Dataset,
    *,
    limit: int,
    seed: int,
    model_args: dict | None = None,
    task_args: dict | None = None,
    **overrides: object,
) -> tuple[float, float]:
    """Validation accuracy of the best epoch, and seconds of training."""
    resolved = config.resolve(
        model,
        images,
        weights="none",
        overrides=overrides,
        seed=seed,
        limit=limit,
        model_args=model_args,
        task_args=task_args,
    )
    training = engine.Training(resolved, data.split(images, val_size=resolved.val_size, limit=limit))
    for _ in engine.fit(training):
        pass
    return training.best.metrics["val/accuracy"], training.seconds


if __name__ == "__main__":
    cli.run(main, "benchmarks.ablation")
