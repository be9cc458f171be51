"""How long champions take behind MLflow's server, and all together behind the playground.

    python -m benchmarks.serving --dataset ../shared/mnist

Run where the models were registered and promoted. Exit code 1 when it takes longer than promised.
"""

import base64
import io
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import click
import numpy as np
import pandas as pd
import torch
from PIL import Image

from benchmarks import runs
from pipeline.cli.dataset import DATASETS
from pipeline.cli.options import split_names
from pipeline.cli.process import run
from pipeline.data import sources
from pipeline.errors import InputError, PipelineError
from pipeline.files import default_root
from pipeline.playground import app
from pipeline.registry import loading, versions

BATCH = 256
MAX_TIMES = 2
MAX_MILLISECONDS = 300
# Whatever HTTP and JSON cost shows in these most; the promise is made for a model that computes.
PROMISED = "cnn"
PAPER = 400


@click.command()
@click.option("--dataset", default="mnist", show_default=True, help=f"What the models were trained on: {DATASETS}.")
@click.option("--models", "names", default="", help="Registered models, separated by commas; all of the data set.")
@runs.rounds_option(15)
def main(dataset: str, names: str, rounds: int) -> None:
    """Print the time of a batch over HTTP beside that of the bare model, and of the playground's answer."""
    images = sources.load(dataset, default_root())
    chosen = split_names(names)
    models = [
        loading.load(version.uri)
        for version in versions.champions()
        if (version.name in chosen if chosen else version.name.startswith(f"{images.name}-"))
    ]
    if not models:
        raise InputError(f"No model of {images.name} has a champion: promote them with `-e promote -P model=all`.")
    batch = images.test.images[:BATCH]
    table = pd.DataFrame(measure(model, batch, rounds) for model in models if model.task == "classification")
    print(
        f"\nMilliseconds for {BATCH} images, median of {rounds} rounds in turn, {torch.get_num_threads()} threads: "
        "the network alone, and\nover HTTP from `mlflow models serve` as PNG files and as lists of pixels.\n"
    )
    print(table.to_markdown(index=False, floatfmt=("", ".1f", ".1f", ".2f", ".1f", ".2f")))
    drawing = drawn(images.test.images[0])
    app.warm_up(models)
    took = [app.answer_all(models, drawing)["milliseconds"] for _ in range(rounds + 1)][1:]
    print(f"\nThe playground's {len(models)} champions answer a drawing in {median(took):.0f} ms.")
    slow = table["times"][table["model"].str.contains(PROMISED)].max() > MAX_TIMES
    if slow or median(took) > MAX_MILLISECONDS:
        sys.exit(f"At most {MAX_TIMES} times the bare {PROMISED}'s time and {MAX_MILLISECONDS} ms are promised.")


def measure(model: loading.RegisteredModel, batch: np.ndarray, rounds: int) -> dict[str, object]:
    """The times of one model, in turn."""
    files = [png(image) for image in batch]
    texts = json.dumps({"inputs": [base64.b64encode(file).decode() for file in files]}).encode()
    lists = json.dumps({"inputs": batch.tolist()}).encode()
    with serving(model.uri) as address:
        ways = {
            "bare": lambda: model.answer(batch),
            "PNG": lambda: ask(address, texts),
            "lists": lambda: ask(address, lists),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(rounds + 1):
            for way, answer in ways.items():
                started = time.perf_counter()
                answer()
                seconds[way].append(time.perf_counter() - started)
    bare, text, pixels = (1000 * median(seconds[way][1:]) for way in ways)
    return {
        "model": model.label,
        "bare ms": bare,
        "PNG ms": text,
        "times": text / bare,
        "lists ms": pixels,
        "times ": pixels / bare,
    }


def drawn(image: np.ndarray) -> bytes:
    """A digit as a large drawing."""
    return png(np.asarray(Image.fromarray(255 - image).resize((PAPER, PAPER))))


def png(image: np.ndarray) -> bytes:
    """A grey image as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def ask(address: str, body: bytes) -> Sequence[Sequence[float]]:
    """What a served model answers."""
    request = urllib.request.Request(f"{address}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)["predictions"]


@contextmanager
def serving(uri: str) -> Iterator[str]:
    """MLflow's own server for one model, on this machine alone; yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = ["mlflow", "models", "serve", "-m", uri, "--env-manager", "local", "--host", "127.0.0.1"]
    process = subprocess.Popen(
        [sys.executable, "-m", *command, "--port", str(port), "--workers", "1"],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/ping", timeout=2)
                break
            except OSError as error:
                if process.poll() is not None:
                    raise PipelineError(f"MLflow's server for {uri} ended with {process.returncode}.") from error
                time.sleep(0.2)
        yield address
    finally:
        process.terminate()
        process.wait(timeout=30)


if __name__ == "__main__":
    run(main, "benchmarks.serving")
