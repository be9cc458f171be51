"""Hold the newest study on `digits` against what is promised of it: accuracy of every architecture, and time.

    mlflow run . --env-manager uv && python -m benchmarks.digits

Exit code 1 when a promise is not kept.
"""

import sys

import click

import models
from pipeline.cli.process import run
from pipeline.comparison import tables
from pipeline.comparison.compare import compare
from pipeline.errors import InputError
from pipeline.tracking import queries, schema
from pipeline.tracking.client import current_experiment
from pipeline.tracking.training_run import Results

MIN_ACCURACY = 0.93
MAX_SECONDS = 300


@click.command()
@click.option(
    "--hold-time/--show-time",
    default=True,
    help="Whether a study that took too long breaks a promise, or its time is only shown, as on a busy machine.",
)
def main(hold_time: bool) -> None:
    """Print the study's table, its time, and each promise that it breaks."""
    experiment = current_experiment()
    study = queries.find_study(experiment)
    if study is None or study.data.tags["dataset"] != "digits" or study.info.status != "FINISHED":
        raise InputError("The newest study is no finished one on digits: run `mlflow run . --env-manager uv` first.")
    within = f"tags.`{schema.PARENT}` = '{study.info.run_id}'"
    comparison = compare(queries.trainings_of(study.info.run_id), Results())
    table = comparison.table
    # The study's own run begins with the launcher, before the environment is installed.
    started = min(run.info.start_time for run in queries.find_runs(experiment, within))
    seconds = (study.info.end_time - started) / 1000
    print(tables.markdown(comparison))
    print(f"\nThe study took {seconds:.0f} s; at most {MAX_SECONDS} s on two cores with bf16 units are promised.")
    accuracy = dict(zip(table["architecture"], table["accuracy"], strict=True))
    broken = [
        f"{name} reaches {accuracy.get(name, 0):.2%} of the test images, {MIN_ACCURACY:.0%} are promised."
        for name in models.names()
        if accuracy.get(name, 0) < MIN_ACCURACY
    ]
    if hold_time and seconds > MAX_SECONDS:
        broken.append("The study took too long.")
    sys.exit("\n".join(broken) or 0)


if __name__ == "__main__":
    run(main, "benchmarks.digits")
