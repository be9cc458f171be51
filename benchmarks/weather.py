"""What bad weather costs and loses: outages, flaky answers and kills, each held against undisturbed work.

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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import click
import mlflow
import pandas as pd
from mlflow.tracking import MlflowClient

from benchmarks.proxy import Weather, proxy
from pipeline.cli.process import run
from pipeline.ending import catch_signals
from pipeline.files import ROOT_VARIABLE

EPOCHS = 40
OPTIONS = ("--dataset", "digits", "--limit", "300", "--epochs", str(EPOCHS), "--wait", "20m")
# What is done, how it is gone on with, and how many epochs there are to record.
WORK: dict[str, tuple[tuple[str, ...], tuple[str, ...], int]] = {
    "training": (("train", "--model", "cnn", *OPTIONS), ("--resume",), EPOCHS),
    "study": (("main", "--models", "mlp,cnn", *OPTIONS), (), 2 * EPOCHS),
}
SERIES = ("train/loss", "val/loss", "val/accuracy", "val/f1", "train/lr")

# What befalls a process until it is the last one that is waited for.
Disturbance = Callable[["Trial"], None]


class Trial:
    """One piece of work under one weather.

    Attributes:
        work: one of `WORK`.
        server: the address of the tracking server itself, which always answers.
        weather: of the proxy that the work reaches it by.
        process: the one that works at present.
    """

    def __init__(self, work: str, server: str, weather: Weather) -> None:
        self.work, self.server, self.weather = work, server, weather
        self.command, self.again, self.epochs = WORK[work]
        self.process = self.start(*self.command)

    def start(self, *command: str) -> subprocess.Popen:
        """Start a command of the pipeline."""
        environment = os.environ | {"MLFLOW_TRACKING_URI": self.weather.uri}
        return subprocess.Popen(
            [sys.executable, "-m", "pipeline", *command],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait_for_epochs(self, count: int) -> None:
        """Wait until so many epochs are recorded, or the process has ended."""
        while self.process.poll() is None and self.recorded_epochs() < count:
            time.sleep(0.1)

    def recorded_epochs(self) -> int:
        client = MlflowClient(self.server)
        runs = client.search_runs(["0"], "tags.kind = 'training'")
        return sum(len(client.get_metric_history(run.info.run_id, "val/loss")) for run in runs)


@click.command()
@click.option("--work", "works", default=",".join(WORK), show_default=True, help="What is disturbed.")
@click.option("--outages", default="5,20,120,600", show_default=True, help="Seconds that the server is away.")
@click.option("--flaky/--no-flaky", default=True, show_default=True, help="Errors, lost answers, cuts, delays.")
@click.option("--kills", type=click.IntRange(0), default=100, show_default=True, help="How many kill -9.")
@click.option("--seed", default=0, show_default=True, help="Of the moments of the kills.")
def main(works: str, outages: str, flaky: bool, kills: int, seed: int) -> None:
    """Print a table of everything that was tried."""
    catch_signals()
    rows = []
    for work in works.split(","):
        calm, seconds = tried(work)
        *_, epochs = WORK[work]
        moments = {"start": 0, "first epoch": 1, "middle": epochs // 2, "last epoch": epochs - 1, "results": epochs}
        trials: dict[str, dict[str, Any]] = {}
        for outage in map(float, filter(None, outages.split(","))):
            for moment, epoch in moments.items():
                trials[f"away {outage:g} s, {moment}"] = {"disturb": away(outage, epoch), "away": not epoch}
        if outages:
            trials["away for ever, then sync"] = {"disturb": away_until_sync, "away": True}
        if flaky:
            trials |= {"20 % errors": {"errors": 0.2}, "20 % lost answers": {"lost": 0.2}}
            trials |= {"20 % cut uploads": {"cut": 0.2}, "10 s before each answer": {"delay": 10.0}}
        if kills:
            trials[f"{kills} kill -9"] = {"disturb": killing(kills, random.Random(seed), seconds)}
        for name, trial in trials.items():
            rows.append(row(f"{work}: {name}", calm, seconds, *tried(work, **trial)))
    table = pd.DataFrame(rows)
    print(table.to_markdown(index=False, floatfmt=".0f"))
    wrong = int((~table["equal"]).sum())
    print(f"{len(table)} tried, {wrong} of them other than undisturbed; start and end are included in the seconds.")
    sys.exit(f"{wrong} lost something or did it twice." if wrong else 0)


def away(seconds: float, epochs: int) -> Disturbance:
    """Turn the weather after so many epochs, for so long."""

    def turn(trial: Trial) -> None:
        trial.wait_for_epochs(epochs)
        trial.weather.away = True
        time.sleep(seconds)
        trial.weather.away = False

    return turn


def away_until_sync(trial: Trial) -> None:
    """Let the work end without a server, and send what it left when there is one."""
    trial.process.kill()
    trial.process = trial.start(*trial.command, "--wait", "1s")
    trial.process.communicate()
    trial.weather.away = False
    trial.process = trial.start("sync")


def killing(count: int, chance: random.Random, seconds: float) -> Disturbance:
    """Kill the work again and again, at any moment of its life, and start it anew, now and then `sync` instead."""

    def kill(trial: Trial) -> None:
        for number in range(count):
            time.sleep(chance.uniform(0, seconds))
            trial.process.kill()
            trial.process.communicate()
            if number + 1 < count and chance.random() < 0.2:
                trial.process = trial.start("sync")
            else:
                trial.process = trial.start(*trial.command, *trial.again)

    return kill


def tried(
    work: str, *, disturb: Disturbance = lambda trial: None, away: bool = False, **shares: float
) -> tuple[dict[str, Any], float]:
    """What a piece of work records under a disturbance, and how long it took.

    Args:
        away: whether the server is so from the beginning.
        shares: of requests that something befalls, and the delay, as `Weather` has them.
    """
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as uri, proxy(uri) as weather:
        os.environ[ROOT_VARIABLE] = str(Path(folder, "root"))
        weather.away = away
        for name, share in shares.items():
            setattr(weather, name, share)
        started = time.perf_counter()
        trial = Trial(work, uri, weather)
        disturb(trial)
        _, err = trial.process.communicate()
        seconds = time.perf_counter() - started
        return (recorded(uri) if trial.process.returncode == 0 else {"failed": err.strip()[-200:]}), seconds


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


def recorded(uri: str) -> dict[str, Any]:
    """Everything that is recorded and measures neither time nor the machine, and how often."""
    client = MlflowClient(uri)
    trainings = client.search_runs(["0"], "tags.kind = 'training'")
    runs = [*trainings, *client.search_runs(["0"], "tags.kind = 'study'")]
    versions = client.search_model_versions()
    sources = {version.run_id: version.source.removeprefix("models:/") for version in versions}
    return {
        "runs": len(runs),
        "versions": len(versions),
        "models": len(client.search_logged_models(["0"])),
        "status": {run.info.run_name: run.info.status for run in runs},
        "values": {run.info.run_name: values(client, run, sources.get(run.info.run_id)) for run in trainings},
    }


def values(client: MlflowClient, run: mlflow.entities.Run, model_id: str | None) -> Mapping[str, Any]:
    """What one training recorded."""
    if model_id is None:
        return {}
    model = client.get_logged_model(model_id)
    # Scores alone: what it cost differs from run to run.
    scores = [m for m in model.metrics or [] if m.key.startswith(("test/", "val/"))]
    file = f"{model.artifact_location}/artifacts/bundle/weights.safetensors"
    weights = mlflow.artifacts.download_artifacts(file, tracking_uri=client.tracking_uri)
    history = {name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)] for name in SERIES}
    return {
        "series": history,
        "files": sorted(file.path for file in client.list_artifacts(run.info.run_id)),
        "params": run.data.params,
        "test": {name: value for name, value in run.data.metrics.items() if name.startswith("test/")},
        "model": (model.name, sorted((m.key, m.step, m.value, m.dataset_name) for m in scores)),
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
