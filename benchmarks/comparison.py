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

from benchmarks import runs
from pipeline.cli.process import run
from pipeline.ending import catch_signals
from pipeline.files import ROOT_VARIABLE

MAX_SECONDS = 3
COPIED = ("runs", "params", "tags", "latest_metrics", "metrics", "inputs", "input_tags")


@click.command()
@click.option(
    "--runs", "count", type=click.IntRange(2), default=2000, show_default=True, help="Finished runs in the store."
)
@runs.rounds_option(5)
def main(count: int, rounds: int) -> None:
    """Print the time of the whole command, from its start to its end."""
    catch_signals()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "mlflow.db")
        runs.use_only(f"sqlite:///{store}")
        environment = os.environ | {
            ROOT_VARIABLE: folder,
            "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]),
        }

        def pipeline(*arguments: str) -> str:
            command = [sys.executable, "-m", "pipeline", *arguments]
            return subprocess.run(
                command, env=environment, cwd=folder, check=True, capture_output=True, text=True
            ).stdout

        pipeline("train", "--model", "mlp", "--dataset", "digits", "--epochs", "1")
        multiply(store, count)
        seconds = []
        for _ in range(rounds + 1):
            started = time.perf_counter()
            table = pipeline("compare", "--experiment", "Default")
            seconds.append(time.perf_counter() - started)
    assert f" {count} " in table, table
    print(table)
    print(f"compare over {count:,} finished runs: {median(seconds[1:]):.2f} s (median of {rounds}, one to warm up).")
    sys.exit(f"At most {MAX_SECONDS} s are promised." if median(seconds[1:]) > MAX_SECONDS else 0)


def multiply(store: Path, count: int) -> None:
    """Copy all rows of the store's one run, its data sets and its model, until there are `count` of them.

    Each copy gets ids and a config of its own.
    """
    with sqlite3.connect(store) as database:
        (run,) = (row[0] for row in database.execute("SELECT run_uuid FROM runs"))
        for table in COPIED:
            columns = [column[1] for column in database.execute(f"PRAGMA table_info({table})")]
            # The run's id stands in several columns; an input's is that of its row.
            values = [
                f"CASE WHEN {column} = '{run}' OR '{column}' = 'input_uuid' "
                f"THEN substr({column}, 1, 26) || n ELSE {column} END"
                for column in columns
            ]
            database.execute(
                f"WITH RECURSIVE numbers(n) AS (SELECT 100000 UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
                f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(values)} FROM {table}, numbers",
                [100_000 + count - 2],
            )
        database.execute("UPDATE tags SET value = value || run_uuid WHERE key = 'config_key'")
    database.close()


if __name__ == "__main__":
    run(main, "benchmarks.comparison")
