"""The command `train`."""

from pathlib import Path
from typing import Any

import click

import models
from pipeline.cli.options import DATASETS, WEIGHTS, Auto, recipe_options, root_option, split_choices, switch
from pipeline.cli.process import catch_signals
from pipeline.errors import InputError


@click.command("train")
@click.option("--model", default="cnn", show_default=True, help=f"Architecture: {', '.join(models.names())}.")
@click.option("--dataset", default="mnist", show_default=True, help=f"{DATASETS}.")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of all chance.")
@click.option("--weights", type=Auto(str), default="auto", show_default=True, help=f"{WEIGHTS}.")
@click.option("--model-args", default="", help="Constructor arguments: kernel_size=5,dropout=0.3.")
@click.option("--task-args", default="", help="Arguments of the task: label_smoothing=0.1, for a detector canvas=96.")
@switch("--resume", "Continue the last interrupted training of exactly these options, if there is one.")
@root_option
@recipe_options
def train(
    model: str,
    dataset: str,
    seed: int,
    weights: str | None,
    model_args: str,
    task_args: str,
    resume: bool,
    root: Path,
    **choices: Any,
) -> None:
    """Train one architecture, test it, register it."""
    from pipeline import config
    from pipeline.data import sources
    from pipeline.tracking import queries, runs
    from pipeline.tracking.client import current_experiment, launcher_run, run_url
    from pipeline.training import run
    from pipeline.training import weights as initial_weights
    from pipeline.training.state import check_build

    catch_signals()
    arguments = config.parse_arguments(model_args, option="model_args")
    task_arguments = config.parse_arguments(task_args, option="task_args")
    source = initial_weights.find(model, weights, arguments)
    images = sources.load(dataset, root)
    start = initial_weights.load(source, model, arguments, classes=images.classes)
    resolved = config.resolve(
        model,
        images,
        weights=source,
        seed=seed,
        model_args=arguments,
        task_args=task_arguments,
        stored=start.stored,
        **split_choices(choices),
    )
    check_build(resolved, images)
    run_id = None
    if resume:
        found = queries.find_trainings(current_experiment(), resolved.key)
        run_id = run.resumable(found, root)
        if not run_id and (cut := run.cut_by_another_version(resolved, root)):
            raise InputError(
                f"Run {cut} of these options was interrupted under another version of the training loop and cannot go "
                "on in this one: leave --resume out to start anew."
            )
        click.echo(
            f"Resuming run {run_id}." if run_id else "There is no interrupted training of these options: starting."
        )
    if run_id:
        runs.nest_launcher_run("resumed", under=run_id)
    if start.lineage:
        click.echo(f"Starting from {start.lineage}.")
    result = run.train(resolved, images, root=root, start=start, run_id=run_id or launcher_run())
    click.echo(f"{model} on {images.name}: {result.summary()}.")
    click.echo(f"Look at it: {run_url(result.run_id)}")
