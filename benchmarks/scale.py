"""How a study grows: trainings an hour by how many are done at a time, here and over Ray, and requests to the server.

    python -m benchmarks.scale

Every training has one thread. A real MLflow server on the same machine records them, behind a proxy that counts.
"""

import os
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import pandas as pd
import psutil
from mlflow.tracking import MlflowClient

from benchmarks import runs
from benchmarks.proxy import Weather, proxy
from benchmarks.weather import server
from pipeline.cli.process import run
from pipeline.ending import catch_signals
from pipeline.files import ROOT_VARIABLE

ENGINES = ("local", "ray")
COLUMNS = [
    "engine",
    "at a time",
    "trainings an hour",
    "of one at a time",
    "seconds until the first ends",
    "requests each",
]


@click.command()
@click.option("--model", default="cnn", show_default=True, help="Architecture.")
@click.option("--dataset", default="digits", show_default=True, help="Data set.")
@click.option("--trainings", type=click.IntRange(2), default=16, show_default=True, help="Of each row.")
@click.option("--epochs", type=click.IntRange(1), default=10, show_default=True, help="Of each training.")
@click.option("--workers", default="1,2,4,8", show_default=True, help="How many at a time, separated by commas.")
@click.option("--engines", default=",".join(ENGINES), show_default=True, help="Separated by commas.")
def main(model: str, dataset: str, trainings: int, epochs: int, workers: str, engines: str) -> None:
    """Print the table."""
    catch_signals()
    rows: list[list[str | int]] = []
    study = ["--models", model, "--dataset", dataset, "--seeds", str(trainings), "--epochs", str(epochs)]
    for engine in runs.split_names(engines, ENGINES):
        for count in map(int, workers.split(",")):
            with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address, proxy(address) as weather:
                hourly, first = measure([*study, "--engine", engine, "--workers", str(count)], weather, folder, count)
            alone = float(rows[0][2]) if rows else hourly
            requests = weather.requests / trainings
            rows.append([engine, count, f"{hourly:.0f}", f"{hourly / alone:.2f}", f"{first:.1f}", f"{requests:.0f}"])
            print(f"{engine}, {count} at a time: {hourly:.0f} trainings an hour", file=sys.stderr)
    print(
        f"\n{trainings} trainings of {model} on {dataset} for {epochs} epochs, a thread each, on {psutil.cpu_count()} "
    )
    print(f"cores ({platform.processor() or platform.machine()}), the server among them.\n")
    print(pd.DataFrame(rows, columns=COLUMNS).to_markdown(index=False, disable_numparse=True))


def measure(study: list[str], weather: Weather, folder: str, threads: int) -> tuple[float, float]:
    """Trainings an hour in a study, from its begin to the last one's end, and seconds until one has ended."""
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": weather.uri,
        ROOT_VARIABLE: folder,
        # Those of a process are shared by its workers.
        "OMP_NUM_THREADS": str(threads),
    }
    command = [sys.executable, "-m", "pipeline", "main", *study, "--register", "false"]
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    found = MlflowClient(weather.uri).search_runs(["0"], "tags.kind = 'training'")
    (whole,) = MlflowClient(weather.uri).search_runs(["0"], "tags.kind = 'study'")
    begin, ends = whole.info.start_time, [training.info.end_time for training in found]
    return len(found) / (max(ends) - begin) * 3_600_000, (min(ends) - begin) / 1000


if __name__ == "__main__":
    run(main, "benchmarks.scale")
