"""The command `evaluate`."""

from pathlib import Path

import click

from pipeline.cli.dataset import dataset_options, load_dataset
from pipeline.cli.downloads import announced
from pipeline.cli.options import model_uri_option, root_option, split_names
from pipeline.ending import catch_signals


@click.command("evaluate")
@model_uri_option
@dataset_options(default="mnist")
@root_option
def evaluate(model_uri: str, trust: str, dataset: str, side: int | None, frame: bool, root: Path) -> None:
    """Test a registered model on the test file of a data set and record it in MLflow."""
    from pipeline.data import sources

    sources.check_name(dataset)
    from pipeline.comparison.judging import stats
    from pipeline.registry import evaluate, loading
    from pipeline.tracking.pages import run_url

    catch_signals()
    model = loading.load(model_uri, trusted=split_names(trust))
    with announced(sources.download_of(dataset, root)):
        images = load_dataset(dataset, root, side=side, frame=frame)
    found = evaluate.evaluate(model, images)
    count, scores = len(images.test), found.scores
    low, high = stats.wilson(round(scores["accuracy"] * count), count)
    click.echo(
        f"{model.label} on {images.name}: {scores['accuracy']:.2%} of the {count:,} test images right "
        f"(95 % interval {low:.2%} to {high:.2%}), F1 {scores['f1']:.2%}, loss {scores['loss']:.4f}."
    )
    click.echo(f"Look at it: {run_url(found.run_id)}")
