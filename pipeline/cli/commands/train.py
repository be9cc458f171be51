"""The command `train`."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import click

import models
from pipeline.cli.dataset import dataset_options, load_dataset
from pipeline.cli.downloads import announced, to_download
from pipeline.cli.options import (
    WEIGHTS,
    Auto,
    chosen,
    naming_options,
    recipe_options,
    recipes_option,
    root_option,
    split_choices,
    switch,
    wait_option,
)
from pipeline.cli.selection import send_all
from pipeline.ending import catch_signals
from pipeline.errors import InputError


@click.command("train")
@click.option("--model", default="cnn", show_default=True, help=f"Architecture: {', '.join(models.names())}.")
@dataset_options(default="mnist")
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of all chance.")
@click.option("--weights", type=Auto(str), default="auto", show_default=True, help=f"{WEIGHTS}.")
@click.option("--model-args", default="", help="Constructor arguments: kernel_size=5,dropout=0.3.")
@click.option("--task-args", default="", help="Arguments of the task: label_smoothing=0.1, for a detector canvas=96.")
@recipes_option
@switch("--resume", "Continue the last interrupted training of exactly these options, if there is one.")
@naming_options
@click.option(
    "--devices",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    help="Processes that train it together, each with a GPU or its share of the cores and its part of every batch.",
)
@switch(
    "--sync-batch-norm",
    "With several devices: normalise by the statistics of the whole batch instead of each process's part.",
)
@wait_option
@root_option
@recipe_options
def train(
    model: str,
    dataset: str,
    side: int | None,
    frame: bool,
    seed: int,
    weights: str | None,
    model_args: str,
    task_args: str,
    recipes: str,
    resume: bool,
    name: str,
    register: bool,
    devices: int,
    sync_batch_norm: bool,
    wait: float,
    root: Path,
    **choices: Any,
) -> None:
    """Train one architecture, test it, register it."""
    from pipeline import arguments, config
    from pipeline.data import sources

    # Before heavy modules are imported: a slip of the pen is answered, and what will be done is said, at once.
    config.check_name(model)
    sources.check_name(dataset, name)
    config.check_source(weights, model)
    of_model = arguments.parse(model_args, option="model_args")
    of_task = arguments.parse(task_args, option="task_args")
    arguments.check_early(model, of_model, of_task)
    data = sources.download_of(dataset, root)
    click.echo(f"{model} on {to_download(dataset, data)}, seed {seed}, {config.start_in_words(weights, model)}.")
    from pipeline.registry import versions
    from pipeline.registry.register import DELIVERIES
    from pipeline.search import recipe
    from pipeline.tracking import runs
    from pipeline.tracking.pages import run_url
    from pipeline.tracking.sender import Sender
    from pipeline.training import continuation, run
    from pipeline.training import weights as initial_weights
    from pipeline.training.devices import begun_by_torchrun, together, train_along
    from pipeline.training.engine.state import check_build

    catch_signals()
    source = initial_weights.find(model, weights, of_model)
    if source == "none" != weights and arguments.has_published_weights(model):
        click.echo("With these model_args there are no published weights: from scratch.")
    settings = {"model_args": of_model, "task_args": of_task, **split_choices(choices)}
    downloads = [*data, *initial_weights.download_of(source, model, of_model)]
    load = partial(load_dataset, dataset, root, side=side, frame=frame, name=name)
    known = sources.stand_in(dataset, side) if data else load()
    if downloads:
        stored = initial_weights.stored(source, model, classes=known.classes)
        held_out = {"val_size": None} if data else {}
        check_build(config.resolve(model, known, weights=source, stored=stored, **settings | held_out), known)
    with announced(downloads):
        images = load() if data else known
        start = initial_weights.load(source, model, of_model, classes=images.classes)
    tuned = recipe.find(recipes, {model: source}, images).get(model)
    if tuned:
        settings = tuned.under(settings)
        click.echo(f"Recipe of {tuned.source}.")
    resolved = config.resolve(model, images, weights=source, seed=seed, stored=start.stored, **settings)
    check_build(resolved, images)
    if (follower := begun_by_torchrun()) and not follower.is_first:
        return train_along(replace(follower, sync_batch_norm=sync_batch_norm), resolved, images)
    place = continuation.find_place(root)
    if register and not name:
        versions.check_names(images, [model], place.client)
    processes = together(resolved, images, devices, sync_batch_norm=sync_batch_norm)
    with Sender(DELIVERIES) as sender, processes as ranks:
        journal = None
        if resume:
            standing = continuation.find_training(resolved, place, sender, study=None)
            journal = standing.journal
            if standing.finished:
                ranks.same_state({})
                recorded = f"run {standing.run_id}" if standing.run_id else "not yet recorded"
                click.echo(f"This training is finished: {recorded}.")
                if register and standing.trial:
                    click.echo(
                        "It was a trial (register=false), so no version is made of it: leave --resume out for one."
                    )
                runs.nest_launcher_run("finished before", under=standing.run_id)
                return send_all(sender, wait)
            if not journal and (cut := continuation.cut_by_another_version(resolved, place)):
                raise InputError(
                    f"A training of these options ({cut}) was interrupted under another version of the training loop "
                    "and cannot go on in this one: leave --resume out to start anew."
                )
            click.echo(
                f"Resuming run {journal.run_id or journal.key}."
                if journal
                else "There is no interrupted training of these options: starting."
            )
        if journal:
            runs.nest_launcher_run("resumed", under=journal.run_id)
        if start.lineage:
            click.echo(f"Starting from {start.lineage}.")
        own = {
            **({"weights": weights} if weights else {}),
            **({"recipe": "tuned"} if tuned else {}),
            **of_model,
            **of_task,
            **chosen(choices),
        }
        result, journal = run.train(
            resolved,
            images,
            root=root,
            sender=sender,
            start=start,
            journal=journal,
            name=config.title(model, own | of_model | of_task | chosen(choices), seed=seed),
            register=register,
            tuning=tuned.tuning if tuned else "",
            ranks=ranks,
        )
        click.echo(f"{model} on {images.name}: {result.summary()}.")
        send_all(sender, wait)
    click.echo(f"Look at it: {run_url(str(journal.run_id))}")
