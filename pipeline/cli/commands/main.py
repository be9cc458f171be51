"""The command `main`."""

import itertools
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.dataset import dataset_options, load_dataset
from pipeline.cli.downloads import announced, to_download
from pipeline.cli.engines import chosen_engine, engine_options
from pipeline.cli.options import (
    WEIGHTS,
    Auto,
    Numbers,
    chosen,
    named_architectures,
    naming_options,
    recipe_options,
    recipes_option,
    root_option,
    split_choices,
    split_names,
    wait_option,
)
from pipeline.cli.selection import send_all, show_comparison, write_report
from pipeline.ending import catch_signals
from pipeline.errors import InputError, PipelineError

if TYPE_CHECKING:
    from pipeline.data.images import Dataset
    from pipeline.training.study import Part


@click.command("main")
@dataset_options(default="digits")
@click.option("--datasets", default="", help="Several in place of one, separated by commas.")
@click.option("--models", "names", default="all", show_default=True, help="Architectures, separated by commas.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Trainings of each.")
@click.option(
    "--limits",
    type=Numbers(),
    default="",
    help="Train on each of these numbers of images, separated by commas; 0: all.",
)
@click.option("--weights", type=Auto(str), default="none", show_default=True, help=f"{WEIGHTS}.")
@recipes_option
@naming_options
@engine_options("as many as pay here")
@wait_option
@root_option
@recipe_options
def main_command(
    dataset: str,
    datasets: str,
    side: int | None,
    frame: bool,
    names: str,
    seeds: int,
    limits: tuple[int, ...],
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

    architectures, sets = named_architectures(names), list(dict.fromkeys(split_names(datasets))) or [dataset]
    if name and len(sets) > 1:
        raise InputError("A name is that of one data set: leave it out, or give one.")
    # The launcher always gives the default.
    if datasets and dataset not in ("digits", *sets):
        raise InputError("Give either dataset or datasets.")
    if limits and choices["limit"]:
        raise InputError("Give either limit or limits.")
    limits = tuple(sorted(limits, key=lambda limit: limit or math.inf)) or (choices["limit"],)
    if len(limits) == 1:
        choices["limit"] = limits[0]
    for each in sets:
        sources.check_name(each, name)
    config.check_source(weights, *architectures)
    downloads = {each: sources.download_of(each, root) for each in sets}
    count = len(sets) * len(limits) * len(architectures) * seeds
    click.echo(
        f"Study on {', '.join(to_download(*each) for each in downloads.items())}: {', '.join(architectures)} "
        f"{config.start_in_words(weights, *architectures)}{f', {seeds:,} seeds' * (seeds > 1)}"
        f"{f', {len(limits):,} numbers of images' * (len(limits) > 1)}: {count:,} training{'s' * (count > 1)}."
    )
    from pipeline.comparison import summary
    from pipeline.comparison.compare import compare
    from pipeline.registry import versions
    from pipeline.registry.register import DELIVERIES
    from pipeline.search.recipe import NEWEST
    from pipeline.tracking import queries, runs, schema
    from pipeline.tracking.sender import Sender
    from pipeline.tracking.training_run import Results
    from pipeline.training import continuation, study
    from pipeline.training import weights as initial_weights
    from pipeline.training.workers.local import paying

    catch_signals()
    settings = split_choices(choices)
    if weights and weights.startswith("models:/"):
        # An alias may stand for another version tomorrow, and the study would be another.
        weights = versions.find(weights).uri
    for each, missing in downloads.items():
        if missing:
            study.plan(
                architectures, 1, sources.stand_in(each, side), source=weights, options=settings | {"val_size": None}
            )
    starts = {each: config.resolve_weights(each, weights, {}) for each in architectures}
    with announced([*itertools.chain(*downloads.values()), *initial_weights.downloads_of(starts)]):
        images = [load_dataset(each, root, side=side, frame=frame, name=name) for each in sets]
        for each, start in starts.items():
            initial_weights.fetch(start, each, {})
    sources.check_different(images)
    parts, tuned = plan_parts(
        images, architectures, seeds, limits, recipes=recipes, starts=starts, source=weights, settings=settings
    )
    configs = [each for part in parts for each in part.configs]
    if len(configs) < count:
        click.echo(f"Some of these numbers are all images that there are: {len(configs):,} trainings are different.")
    if len(limits) > 1:
        choices["limits"] = ",".join(map(str, limits))
        settings["limit"] = choices["limits"]
    naming = {**({"name": name} if name else {}), **({} if register else {"register": False})}
    study_key = study.key(
        images,
        source=weights,
        options=settings | naming | ({"recipes": tuned[0] if len(sets) == 1 else tuned} if any(tuned) else {}),
    )
    special = {} if weights == "none" else {"weights": weights or "auto"}
    special |= {"recipes": NEWEST} if any(tuned) else {}
    title = config.title(f"{', '.join(one.name for one in images)} study", special | chosen(choices))
    does = chosen_engine(
        engine, workers, address, cpus, gpus, auto=1 if engine == "ray" else paying(configs), device=configs[0].device
    )
    place = continuation.find_place(root)
    if register and not name:
        for one in images:
            versions.check_names(one, architectures, place.client)
    with Sender(DELIVERIES) as sender:
        outcome = study.run(
            parts, study_key=study_key, name=title, register=register, place=place, sender=sender, engine=does
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


def plan_parts(
    images: Sequence["Dataset"],
    names: Sequence[str],
    seeds: int,
    limits: Sequence[int],
    *,
    recipes: str,
    starts: Mapping[str, str],
    source: str | None,
    settings: Mapping[str, Any],
) -> tuple[list["Part"], list[dict[str, Any]]]:
    """A study's trainings on each data set, with each number of images; and of each the tuned options by architecture.

    Raises:
        InputError: an option does not fit one of the architectures or this machine, or there is no such recipe.
    """
    from pipeline.search import recipe
    from pipeline.training import study

    parts, tuned = [], []
    for dataset in images:
        found = recipe.find(recipes, starts, dataset)
        tuned.append({name: better.under(settings) for name, better in found.items()})
        configs = [
            study.plan(names, seeds, dataset, source=source, options={**settings, "limit": limit}, tuned=tuned[-1])
            for limit in limits
        ]
        spent = {name: better.tuning for name, better in found.items()}
        # Two limits above what there is are one: all images.
        different = {config.key: config for config in itertools.chain(*configs)}
        parts.append(study.Part(dataset, list(different.values()), spent))
    return parts, tuned
