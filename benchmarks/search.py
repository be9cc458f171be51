"""What a search brings and what pruning saves: the same search with several ways of ending trials early.

    python -m benchmarks.search --dataset mnist

Accuracy is that on the validation images; the test images have no part in it. Interrupted, it goes on when run again.
"""

from typing import get_args

import click
import pandas as pd
import torch

from benchmarks import runs
from pipeline.cli.process import run
from pipeline.cli.selection import send_all
from pipeline.ending import catch_signals
from pipeline.files import default_root
from pipeline.registry.register import DELIVERIES
from pipeline.search import Pruning
from pipeline.search.results import OWN, TUNED, mean_and_deviation
from pipeline.search.run import run as run_search
from pipeline.search.search import Search
from pipeline.search.space import in_words, space_of
from pipeline.search.storage import default_storage
from pipeline.tracking.sender import Sender
from pipeline.training import continuation
from pipeline.training.weights import FRESH

COLUMNS = ["pruner", "complete", "pruned", "failed", "cost of whole trainings", "best trial", OWN, TUNED]


@click.command()
@runs.dataset_option
@click.option("--model", default="cnn", show_default=True, help="Architecture.")
@click.option("--limit", type=click.IntRange(0), default=5_000, show_default=True, help="Train on so many images.")
@click.option("--trials", type=click.IntRange(1), default=30, show_default=True, help="Trials of each search.")
@click.option("--seeds", type=click.IntRange(1), default=5, show_default=True, help="Fresh seeds in the end.")
@click.option("--pruners", default=",".join(get_args(Pruning)), show_default=True, help="Separated by commas.")
@runs.epochs_option
def main(dataset: str, model: str, limit: int, trials: int, seeds: int, pruners: str, epochs: int | None) -> None:
    """Print the table."""
    catch_signals()
    images = runs.load(dataset)
    fixed = {"epochs": epochs} if epochs else {}
    base, _ = runs.configured(model, images, limit=limit, **fixed)
    space, train_images = (
        space_of(base, fixed=fixed),
        min(limit or len(images.train), len(images.train) - base.val_size),
    )
    place, rows, said = continuation.find_place(default_root()), [], []
    with Sender(DELIVERIES) as sender:
        for pruner in runs.split_names(pruners, get_args(Pruning)):
            search = Search(
                space,
                trials=trials,
                images=None,
                train_images=train_images,
                seeds=seeds,
                folds=0,
                pruning=pruner,
                storage=default_storage(place.root),
            )
            outcome = run_search(search, images, place=place, sender=sender, start=FRESH, several=True)
            assert outcome is not None, "nobody else runs this search"
            found, _ = outcome
            whole = sum(len(trial.intermediate_values) for trial in found.trials) / base.epochs
            fresh = {name: mean_and_deviation(found.fresh[name]) for name in (OWN, TUNED) if name in found.fresh}
            rows.append(
                [pruner, *found.counts.values(), f"{whole:.1f}", f"{found.best.value:.2%}"]
                + [fresh.get(name, "") for name in (OWN, TUNED)]
            )
            said.append(f"{pruner}: {in_words(found.best.params)}")
        send_all(sender, runs.WAIT_S)
    print(
        f"\n{trials} trials of {model} on {train_images:,} images of {images.name} for {base.epochs} epochs, ", end=""
    )
    print(f"{torch.get_num_threads()} threads; accuracy on {base.val_size:,} validation images, the last two columns ")
    print(f"over {seeds} fresh seeds.\n")
    print(pd.DataFrame(rows, columns=COLUMNS).to_markdown(index=False, disable_numparse=True))
    print("\nThe best trials:\n\n" + "\n".join(f"- {line}" for line in said))


if __name__ == "__main__":
    run(main, "benchmarks.search")
