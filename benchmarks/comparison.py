"""How long `compare` takes over many finished runs in a local store.

    python -m benchmarks.comparison

One training is recorded for real and its rows are copied in the store's own database. Exit code 1 when it takes longer
than promised.
"""

import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import click

from pipeline import cli
from pipeline.files import ROOT_VARIABLE

MOST_SECONDS = 3
COPIED = ("runs", "params", "tags", "latest_metrics", "metrics")


@click.command()
@click.option("--runs", default=2000, show_default=True, help="Finished runs in the store.")
@click.option("--rounds", default=5, show_default=True, help="How often the time is measured.")
def main(runs: int, rounds: int) -> None:
    """Print the time of the whole command, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "mlflow.db")
        environment = os.environ | {
            "MLFLOW_TRACKING_URI": f"sqlite:///{store}",
            ROOT_VARIABLE: folder,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        }

        def pipeline(*arguments: str) -> str:
            command = [sys.executable, "-m", "pipeline", *arguments]
            return subprocess.run(
                command, env=environment, cwd=folder, check=True, capture_output=True, text=True
            ).stdout

        pipeline("train", "--model", "mlp", "--dataset", "digits", "--epochs", "1")
        multiply(store, runs)
        seconds = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            table = pipeline("compare", "--experiment", "Default")
            seconds.append(time.perf_counter() - started)
    assert f"| {runs} " in table, table
    print(table)
    print(f"compare over {runs:,} finished runs: {median(seconds[1:]):.2f} s (median of {rounds}, one to warm up).")
    sys.exit(f"At most {MOST_SECONDS} s are promised." if median(seconds[1:]) > MOST_SECONDS else 0)


def multiply(store: Path, runs: int) -> None:
    """Copy the rows of the store's one run until there are `runs` of them, each with a config of its own."""
    with sqlite3.connect(store) as database:
        for table in COPIED:
            columns = [column[1] for column in database.execute(f"PRAGMA table_info({table})")]
            values = ["substr(run_uuid, 1, 26) || n" if column == "run_uuid" else column for column in columns]
            database.execute(
                f"WITH RECURSIVE numbers(n) AS (SELECT 100000 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table}, numbers",
                [100_000 + runs - 2],
            )
        database.execute("UPDATE tags SET value = value || run_uuid WHERE key = 'config_key'")
    database.close()


if __name__ == "__main__":
    cli.run(main, "benchmarks.comparison")
