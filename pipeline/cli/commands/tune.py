"""The command `tune`."""

from pathlib import Path
from typing import Any, get_args

import click

from pipeline.cli.dataset import dataset_options, load_dataset
from pipeline.cli.downloads import announced, to_download
from pipeline.cli.engines import chosen_engine, engine_options
from pipeline.cli.options import (
    WEIGHTS,
    Auto,
    named_architectures,
    recipe_options,
    root_option,
    split_choices,
    wait_option,
)
from pipeline.cli.selection import send_all
from pipeline.ending import catch_signals
from pipeline.errors import PipelineError
from pipeline.search import Pruning


@click.command("tune")
@click.option(
    "--model", "--models", "names", default="cnn", show_default=True, help="Architectures, separated by commas, or all."
)
@dataset_options(default="mnist")
@click.option("--trials", type=click.IntRange(1, 100_000), default=40, show_default=True, help="Recipes to try.")
@click.option(
    "--images",
    type=Auto(click.IntRange(1)),
    default="auto",
    show_default=True,
    help="Training images that a search may see, instead of a number of trials; auto: with several architectures the "
    "same for each, what so many trials of the one that sees fewest would see.",
)
@click.option(
    "--pruner", type=click.Choice(get_args(Pruning)), default="median", show_default=True, help="What ends bad trials."
)
@click.option(
    "--seeds",
    type=click.IntRange(0, 100),
    default=3,
    show_default=True,
    help="Other seeds with which the best recipe and the architecture's own are trained in the end.",
)
@click.option(
    "--folds",
    type=click.IntRange(0, 100),
    default=0,
    show_default=True,
    help="Of few images: validate these trainings on so many parts of the training file in turn, with a seed each; 0: "
    "on the images of the search.",
)
@click.option("--seed", type=click.IntRange(0, 2**31 - 1), default=0, show_default=True, help="Seed of all chance.")
@click.option(
    "--storage", type=Auto(str), default="auto", show_default="searches.db in the root", help="Optuna's database."
)
@engine_options("one, so that a seed always finds the same")
@click.option("--weights", type=Auto(str), default="none", show_default=True, help=f"{WEIGHTS}.")
@click.option("--name", default="", help="What the data set is called in runs; its own name by default.")
@wait_option
@root_option
@recipe_options
def tune(
    names: str,
    dataset: str,
    side: int | None,
    frame: bool,
    trials: int,
    images: int | None,
    pruner: Pruning,
    seeds: int,
    folds: int,
    seed: int,
    storage: str | None,
    engine: str,
    workers: int | None,
    address: str,
    cpus: int,
    gpus: float | None,
    weights: str | None,
    name: str,
    wait: float,
    root: Path,
    **choices: Any,
) -> None:
    """Search for a better recipe, on validation only. Run again, it goes on; run twice at once, it is shared."""
    from pipeline import config
    from pipeline.data import sources

    architectures = named_architectures(names)
    sources.check_name(dataset, name)
    config.check_source(weights, *architectures)
    data = sources.download_of(dataset, root)
    shared = len(architectures) > 1
    budget = f"{images:,} training images" if images else f"{trials:,} trials"
    click.echo(
        f"Search on {to_download(dataset, data)}: recipes of {', '.join(architectures)}, {budget}"
        f"{', the same number of images for each' if shared and not images else ' each' * shared}, on validation only."
    )
    from pipeline.data.splits import check_folds
    from pipeline.registry.register import DELIVERIES
    from pipeline.search import run
    from pipeline.search.search import Search, equal_budget
    from pipeline.search.space import space_of
    from pipeline.search.storage import default_storage
    from pipeline.tracking import runs
    from pipeline.tracking.pages import run_url
    from pipeline.tracking.sender import Sender
    from pipeline.training import continuation
    from pipeline.training import weights as initial_weights
    from pipeline.training.engine.state import check_build

    catch_signals()
    settings = split_choices(choices)
    found = {each: initial_weights.find(each, weights, {}) for each in architectures}
    with announced([*data, *initial_weights.downloads_of(found)]):
        known = load_dataset(dataset, root, side=side, frame=frame, name=name)
        starts = {each: initial_weights.load(found[each], each, {}, classes=known.classes) for each in architectures}
    spaces = []
    for each, start in starts.items():
        base = config.resolve(each, known, weights=found[each], seed=seed, stored=start.stored, **settings)
        check_build(base, known)
        spaces.append(space_of(base, fixed=settings["overrides"]))
    if folds:
        check_folds(known.train.targets, folds)
    train_images = len(known.train) - spaces[0].base.val_size
    train_images = min(train_images, choices["limit"] or train_images)
    if shared and not images:
        images = equal_budget(spaces, trials=trials, train_images=train_images)
    if shared:
        runs.nest_launcher_run("tune", under=None)
    storage = storage or default_storage(root)
    does = None
    if engine == "ray" or (workers or 1) > 1:
        does = chosen_engine(
            engine, workers, address, cpus, gpus, auto=1, device=spaces[0].base.device, storage=storage
        )
    place = continuation.find_place(root)
    failures = {}
    with Sender(DELIVERIES) as sender:
        for space in spaces:
            model = space.base.model
            search = Search(
                space,
                trials=None if images else trials,
                images=images,
                train_images=train_images,
                seeds=seeds,
                folds=folds,
                pruning=pruner,
                storage=storage,
            )
            try:
                outcome = run.run(
                    search, known, place=place, sender=sender, start=starts[model], several=shared, engine=does
                )
            except PipelineError as error:
                if not shared:
                    raise
                failures[model] = str(error)
                click.echo(f"{model}: {error}", err=True)
                continue
            if outcome is None:
                click.echo("Another process of this search says what was found.")
                continue
            result, journal = outcome
            click.echo("\n".join(result.sentences()))
            send_all(sender, wait)
            click.echo(f"Use it: -P recipe=runs:/{journal.run_id}/recipe.json, or -P recipes=tuned in a study.")
            click.echo(f"Look at it: {run_url(str(journal.run_id))}")
        send_all(sender, wait)
    if failures:
        raise PipelineError(f"{len(failures)} of {len(spaces)} searches failed: {', '.join(failures)}.")
