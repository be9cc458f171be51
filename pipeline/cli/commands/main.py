"""The command `main`."""

import tempfile
from pathlib import Path
from typing import Any

import click

from pipeline.cli.dataset import dataset_options, load_dataset
from pipeline.cli.downloads import announced, to_download
from pipeline.cli.engines import chosen_engine, engine_options
from pipeline.cli.options import (
    WEIGHTS,
    Auto,
    chosen,
    named_architectures,
    naming_options,
    recipe_options,
    recipes_option,
    root_option,
    split_choices,
    wait_option,
)
from pipeline.cli.selection import send_all, show_comparison, write_report
from pipeline.ending import catch_signals
from pipeline.errors import PipelineError


@click.command("main")
@dataset_options(default="digits")
@click.option("--models", "names", default="all", show_default=True, help="Architectures, separated by commas.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Trainings of each.")
@click.option("--weights", type=Auto(str), default="none", show_default=True, help=f"{WEIGHTS}.")
@recipes_option
@naming_options
@engine_options("as many as pay here")
@wait_option
@root_option
@recipe_options
def main_command(
    dataset: str,
    side: int | None,
    frame: bool,
    names: str,
    seeds: int,
    weights: str | None,
    recipes: str,
    name: str,
    register: bool,
    engine: str,
    workers: int | None,
    address: str,
    cpus: int,
    gpus: float | None,
    wait: float,
    root: Path,
    **choices: Any,
) -> None:
    """Run a study: train every architecture, then compare. Run again, it continues where it stopped."""
    from pipeline import config
    from pipeline.data import sources

    architectures = named_architectures(names)
    sources.check_name(dataset, name)
    config.check_source(weights, *architectures)
    data = sources.download_of(dataset, root)
    count = len(architectures) * seeds
    click.echo(
        f"Study on {to_download(dataset, data)}: {count:,} training{'s' * (count > 1)}, "
        f"{config.start_in_words(weights, *architectures)}, of {', '.join(architectures)}"
        f"{f', each with {seeds:,} seeds' * (seeds > 1)}."
    )
    from pipeline.comparison import summary
    from pipeline.comparison.compare import compare
    from pipeline.registry import versions
    from pipeline.registry.register import DELIVERIES
    from pipeline.search import recipe
    from pipeline.tracking import queries, runs, schema
    from pipeline.tracking.sender import Sender
    from pipeline.tracking.training_run import Results
    from pipeline.training import continuation, study
    from pipeline.training import weights as initial_weights
    from pipeline.training.workers import paying

    catch_signals()
    settings = split_choices(choices)
    if weights and weights.startswith("models:/"):
        # An alias may stand for another version tomorrow, and the study would be another.
        weights = versions.find(weights).uri
    if data:
        study.plan(
            architectures, 1, sources.stand_in(dataset, side), source=weights, options=settings | {"val_size": None}
        )
    starts = {each: config.resolve_weights(each, weights, {}) for each in architectures}
    with announced([*data, *initial_weights.downloads_of(starts)]):
        images = load_dataset(dataset, root, side=side, frame=frame, name=name)
        for each, start in starts.items():
            initial_weights.fetch(start, each, {})
    found = recipe.find(recipes, starts, images.sha256)
    tuned = {each: one.under(settings) for each, one in found.items()}
    configs = study.plan(architectures, seeds, images, source=weights, options=settings, tuned=tuned)
    naming = {**({"name": name} if name else {}), **({} if register else {"register": False})}
    study_key = study.key(images, source=weights, options=settings | naming | ({"recipes": tuned} if tuned else {}))
    own = {} if weights == "none" else {"weights": weights or "auto"}
    own |= {"recipes": recipe.NEWEST} if found else {}
    title = config.title(f"{images.name} study", own | chosen(choices))
    does = chosen_engine(
        engine, workers, address, cpus, gpus, auto=1 if engine == "ray" else paying(configs), device=configs[0].device
    )
    place = continuation.find_place(root)
    if register and not name:
        versions.check_names(images, architectures, place.client)
    with Sender(DELIVERIES) as sender:
        outcome = study.run(
            images,
            configs,
            study_key=study_key,
            name=title,
            register=register,
            place=place,
            sender=sender,
            engine=does,
            tuning={each: one.tuning for each, one in found.items()},
        )
        send_all(sender, wait)
    study_id = str(outcome.journal.run_id)
    trainings = queries.trainings_of(study_id)
    if any(training.status == "FINISHED" for training in trainings):
        comparison = compare(trainings, Results())
        show_comparison(study_id, comparison)
        with tempfile.TemporaryDirectory() as folder:
            write_report(Path(folder, schema.REPORT), comparison, source=f"study {study_id}")
            runs.log_artifacts(study_id, Path(folder))
    else:
        runs.log_results(study_id, summary.metrics(trainings, None))
        click.echo("No training finished, so there is nothing to compare.")
    if outcome.failures:
        raise PipelineError(
            f"{len(outcome.failures)} of {len(configs)} trainings failed: {', '.join(outcome.failures)}."
        )
