"""What bad weather costs and loses: outages, flaky answers and kills, each held against an undisturbed training.

    python -m benchmarks.weather

A real MLflow server stands behind a proxy that is told when to be away. Exit code 1 when anything was lost or is there
twice.
"""

import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import click
import mlflow
import pandas as pd
from mlflow.tracking import MlflowClient

from benchmarks.proxy import Weather, proxy
from pipeline.cli.process import catch_signals, run
from pipeline.files import ROOT_VARIABLE

EPOCHS = 40
# When the weather turns: before the start, after so many epochs, and while the results are sent.
MOMENTS = {"start": 0, "first epoch": 1, "middle": EPOCHS // 2, "near the end": EPOCHS - 2, "results": EPOCHS}
TRAINING = ("train", "--model", "cnn", "--dataset", "digits", "--limit", "300", "--epochs", str(EPOCHS))
SERIES = ("train/loss", "val/loss", "val/accuracy", "val/f1", "train/lr")


@click.command()
@click.option("--outages", default="5,20,120,600", show_default=True, help="Seconds that the server is away.")
@click.option("--kills", type=click.IntRange(0), default=100, show_default=True, help="How many kill -9.")
@click.option("--seed", default=0, show_default=True, help="Of the moments of the kills.")
def main(outages: str, kills: int, seed: int) -> None:
    """Print a table of everything that was tried."""
    catch_signals()
    rows = []
    calm, seconds = tried(lambda process, weather: None)
    for outage in map(float, filter(None, outages.split(","))):
        for moment, epoch in MOMENTS.items():
            rows.append(
                row(f"away {outage:g} s, {moment}", calm, seconds, *tried(away(outage, epoch), begin_away=not epoch))
            )
    for name, shares in {"errors": (0.2, 0, 0), "lost answers": (0, 0.2, 0), "cut uploads": (0, 0, 0.2)}.items():
        rows.append(row(f"20 % {name}", calm, seconds, *tried(lambda process, weather: None, shares=shares)))
    chance = random.Random(seed)
    if kills:
        rows.append(row(f"{kills} kill -9", calm, seconds, *tried(killing(kills, chance))))
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False, floatfmt=".0f"))
    wrong = int((~table["equal"]).sum())
    print(f"{len(table)} tried, {wrong} of them other than undisturbed ({seconds:.0f} s, start and end included).")
    sys.exit(f"{wrong} lost something or did it twice." if wrong else 0)


def away(seconds: float, epoch: int) -> Callable[[subprocess.Popen, Weather], None]:
    """Turn the weather after an epoch, for so long."""

    def turn(process: subprocess.Popen, weather: Weather) -> None:
        if epoch:
            wait_for(process, f"epoch {epoch:>2}/")
        weather.away = True
        time.sleep(seconds)
        weather.away = False

    return turn


def killing(count: int, chance: random.Random) -> Callable[[subprocess.Popen, Weather], subprocess.Popen]:
    """Kill the training again and again, at any moment of its life, and start it anew."""

    def kill(process: subprocess.Popen, weather: Weather) -> subprocess.Popen:
        for _ in range(count):
            time.sleep(chance.uniform(0, 15))
            process.kill()
            process.communicate()
            process = start(weather.uri, "--resume")
        return process

    return kill


def tried(
    disturb: Callable[[subprocess.Popen, Weather], subprocess.Popen | None],
    *,
    begin_away: bool = False,
    shares: tuple[float, float, float] = (0, 0, 0),
) -> tuple[dict, float]:
    """What a training records under a disturbance, and how long it took."""
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as uri, proxy(uri) as weather:
        os.environ[ROOT_VARIABLE] = str(Path(folder, "root"))
        weather.away = begin_away
        weather.errors, weather.lost, weather.cut = shares
        started = time.perf_counter()
        process = start(weather.uri)
        process = disturb(process, weather) or process
        _, err = process.communicate()
        seconds = time.perf_counter() - started
        return (recorded(uri) if process.returncode == 0 else {"failed": err.strip()[-200:]}), seconds


def start(uri: str, *options: str) -> subprocess.Popen:
    """Start the training."""
    environment = os.environ | {"MLFLOW_TRACKING_URI": uri}
    command = [sys.executable, "-m", "pipeline", *TRAINING, *options]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen, text: str) -> None:
    """Read what a training says until it says this, or ends."""
    for line in process.stdout or ():
        if text in line:
            return


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """A real tracking server with a database and artifacts of its own; yields its address."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    stores = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", f"{folder}/artifacts"]
    process = subprocess.Popen(
        [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1", *stores],
        env=os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while process.poll() is None:
            with suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2)
                break
            time.sleep(0.3)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def recorded(uri: str) -> dict:
    """Everything that is recorded and measures neither time nor the machine, and how often."""
    client = MlflowClient(uri)
    runs = client.search_runs(["0"], "tags.kind = 'training'")
    found = client.search_model_versions()
    run = next(run for run in runs if run.info.status == "FINISHED")
    place = client.get_logged_model(found[0].source.removeprefix("models:/")).artifact_location
    weights = mlflow.artifacts.download_artifacts(f"{place}/artifacts/bundle/weights.safetensors", tracking_uri=uri)
    history = {name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in SERIES}
    return {
        "runs": len(runs),
        "versions": len(found),
        "models": len(client.search_logged_models(["0"])),
        "series": history,
        "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
        "params": run.data.params,
        "test": {name: value for name, value in run.data.metrics.items() if name.startswith("test/")},
        "weights": hashlib.sha256(Path(weights).read_bytes()).hexdigest(),
    }


def row(name: str, calm: dict, calm_s: float, found: dict, seconds: float) -> dict:
    """A line of the table."""
    counts = {what: found.get(what, 0) for what in ("runs", "versions", "models")}
    equal = found == calm
    print(f"{name}: {'equal' if equal else found.get('failed', 'other values')}, {seconds:.0f} s", file=sys.stderr)
    return {"weather": name, "equal": equal, **counts, "seconds more": seconds - calm_s}


if __name__ == "__main__":
    run(main, "benchmarks.weather")
