"""Memory that `prepare` and `train` take for a large data set, beside the bytes of its images.

    python -m benchmarks.memory

Each runs twice in a process of its own, on many made images and on few: the difference is what images take.
Exit code 1 when it is more than promised.
"""

import multiprocessing
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor
from contextlib import chdir
from pathlib import Path

import click
import numpy as np
import pandas as pd

from benchmarks import runs
from benchmarks.speed import peak_gigabytes
from pipeline.cli import commands
from pipeline.cli.process import run
from pipeline.data import idx
from pipeline.ending import catch_signals

MOST = 2.5
FEW = 1_000
# Of seven images one is for the test, as in MNIST.
PARTS = {"train": 6, "t10k": 1}
# What prepare examines takes minutes of so many images, and less memory than a training.
COMMANDS = {"prepare": ["--examine", "false"], "train": ["--model", "mlp", "--epochs", "1"]}


@click.command()
@click.option("--images", type=click.IntRange(10 * FEW), default=400_000, show_default=True, help="How many are made.")
def main(images: int) -> None:
    """Print the table, and each promise that is broken."""
    catch_signals()
    gigabytes = images * runs.SIZE**2 / 1e9
    rows, broken = [], []
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        runs.use_only("sqlite:///mlflow.db")
        make(Path("few"), FEW)
        make(Path("many"), images)
        for name, options in COMMANDS.items():
            few, many = (peak([name, *options, "--dataset", made, "--root", "root"]) for made in ("few", "many"))
            times = (many - few) / (gigabytes * (1 - FEW / images))
            rows.append(
                {
                    "command": name,
                    "peak with all libraries, GB": f"{many:.2f}",
                    "with few images, GB": f"{few:.2f}",
                    "times": times,
                }
            )
            if times > MOST:
                broken.append(f"{name} takes {times:.2f} times the bytes of the images, {MOST} are promised.")
    print(f"\n{images:,} images, {gigabytes:.2f} GB; times: what a byte of the images takes, {MOST} are promised.\n")
    print(pd.DataFrame(rows).to_markdown(index=False, floatfmt=".2f"))
    sys.exit("\n".join(broken) or 0)


def make(folder: Path, count: int) -> None:
    """A learnable data set of noise: the label is the shade of the first rows."""
    folder.mkdir()
    random = np.random.default_rng(0)
    for part, share in PARTS.items():
        labels = random.integers(0, runs.CLASSES, count * share // 7, np.uint8)
        images = random.integers(0, 256, (len(labels), runs.SIZE, runs.SIZE), np.uint8)
        images[:, :4] = 25 * labels[:, None, None]
        idx.write(folder / f"{part}-images-idx3-ubyte", images)
        idx.write(folder / f"{part}-labels-idx1-ubyte", labels)


def peak(arguments: list[str]) -> float:
    """The most gigabytes that a process of its own holds for a command."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as worker:
        return worker.submit(run_command, arguments).result()


def run_command(arguments: list[str]) -> float:
    """Run a command in this process and say how much it has held."""
    sys.argv[1:] = arguments
    commands.main()
    return peak_gigabytes()


if __name__ == "__main__":
    run(main, "benchmarks.memory")
