"""The studies, comparisons and versions that commands are about."""

import tempfile
from datetime import datetime
from pathlib import Path
from typing import Any

import click

import models
from pipeline.cli.options import Auto, Finite, options
from pipeline.errors import InputError, PipelineError

margin_option = click.option(
    "--margin",
    type=Auto(Finite(0)),
    default="auto",
    show_default=True,
    help="How far two may be apart and count as equal: in percentage points, of metrics that are no share in their own "
    "unit. auto: 0.1 where the best accuracy is above 99 %, else 0.5; other metrics have none.",
)
# Which trainings.
trainings_options = options(
    click.option("--study", default="latest", show_default=True, help="Run id of a study."),
    click.option("--experiment", default="", help="All trainings of this experiment instead."),
    click.option("--filter", "filter_string", default="", help="MLflow filter on them: \"params.seed = '0'\"."),
    click.option("--since", type=click.DateTime(), help="Only those that started then or later."),
)
# Which trainings, and how they are compared.
selection_options = options(
    trainings_options,
    click.option("--metric", default="accuracy", show_default=True, help="What they are judged by: a column."),
    margin_option,
    click.option("--sort", default="", help="Column to sort by; the metric by default."),
)
# Options that leave trainings out, and what they are called on the page.
NARROWING = {"filter_string": "filter", "since": "since"}


def nest_launcher_run(name: str, version: Any) -> None:
    """Nest the launcher's run under the training of the registered version that it is about, if it is in a registry."""
    from pipeline.tracking import runs

    if version and version.run_id:
        runs.nest_launcher_run(name, under=version.run_id)


def find_study(study: str) -> str:
    """Run id of a study, the newest of the current experiment for `latest`."""
    from mlflow.entities import LifecycleStage

    from pipeline.tracking import queries
    from pipeline.tracking.client import current_experiment

    if study != "latest":
        run = queries.get_run(study)
        if run.info.lifecycle_stage == LifecycleStage.DELETED:
            raise InputError(f"The study {study} was deleted: name another.")
        return run.info.run_id
    if found := queries.find_study(current_experiment()):
        return found.info.run_id
    raise InputError("There is no study yet: run `mlflow run .` first, or name a registered model with --model.")


def find_versions(study: str, model: str, version: int | None) -> list[Any]:
    """The registered versions that `promote` is to judge."""
    from pipeline.comparison.compare import compare
    from pipeline.registry import promotion, versions
    from pipeline.tracking import queries, schema
    from pipeline.tracking.training_run import Results

    if model not in ("best", "all", schema.ENSEMBLE, *models.names()):
        return [versions.find(f"models:/{model}/{version or 'latest'}")]
    if version:
        raise InputError(f"--version {version} needs the --model it belongs to: a registered model.")
    study_id, results = find_study(study), Results()
    best = promotion.best_trainings(compare(queries.trainings_of(study_id), results))
    found, chosen = [], []
    for dataset, trainings in best.items():
        if model == schema.ENSEMBLE:
            from pipeline.registry import ensemble

            found.append(ensemble.create(trainings, results, study_id=study_id))
        elif model in models.names() and model not in trainings:
            raise InputError(
                f"The study has no finished training of {model} on {dataset}: it has {', '.join(trainings)}."
            )
        else:
            names = list(trainings) if model == "all" else [next(iter(trainings)) if model == "best" else model]
            chosen += [trainings[name] for name in names]
    for training in chosen:
        try:
            found.append(promotion.find_candidate(training))
        except InputError as error:
            # One deleted version keeps the others from nothing.
            if len(chosen) == 1:
                raise
            click.echo(str(error), err=True)
    if not found:
        raise InputError("No training of the study has a registered model.")
    return found


def select(
    *, study: str, experiment: str, filter_string: str, since: datetime | None, against: str = "", **choices: Any
) -> tuple[str | None, Any]:
    """The study that was meant, unless it was an experiment or there is none, and the comparison of its trainings."""
    from pipeline.comparison.compare import compare
    from pipeline.tracking import queries
    from pipeline.tracking.client import connect, current_experiment, experiment_named
    from pipeline.tracking.training_run import Results

    since_ms = round(since.timestamp() * 1000) if since else 0
    if not experiment and study == "latest" and not queries.find_study(here := current_experiment()):
        experiment = connect().get_experiment(here).name
        click.echo(f"There is no study in the experiment {experiment}: these are all its trainings.")
    study_id = None if experiment else find_study(study)
    if study_id:
        found = queries.trainings_of(study_id, filter_string, since_ms=since_ms)
    else:
        found = queries.trainings(experiment_named(experiment), filter_string, since_ms=since_ms)
    if against:
        found += queries.trainings_elsewhere(against, filter_string, since_ms=since_ms)
        choices["sort"] = choices["sort"] or "architecture"
    return study_id, compare(found, Results(), **choices)


def is_usual(*, metric: str, margin: float | None, sort: str, **selection: Any) -> bool:
    """Whether it is the comparison that every study shows, which alone its run keeps."""
    return metric == "accuracy" and margin is None and not sort and not any(selection[name] for name in NARROWING)


def show_comparison(study_id: str, comparison: Any, *, log: bool = True) -> None:
    """Print a study's comparison, log it to the study's run, and say where to look."""
    from pipeline.comparison import summary, tables
    from pipeline.tracking import runs
    from pipeline.tracking.client import experiment_of
    from pipeline.tracking.pages import run_url, trainings_url

    tables.show(comparison)
    if log:
        runs.log_results(study_id, summary.metrics(comparison.trainings, comparison))
        runs.log_tags(study_id, summary.tags(comparison))
        with tempfile.TemporaryDirectory() as folder:
            for ending in (".csv", ".md"):
                tables.write(comparison, Path(folder, f"comparison{ending}"))
            comparison.pairs.to_csv(Path(folder, "pairs.csv"), index=False)
            if len(comparison.votes):
                comparison.votes.to_csv(Path(folder, "votes.csv"), index=False)
            runs.log_artifacts(study_id, Path(folder))
    click.echo(f"Look at it: {run_url(study_id)}")
    click.echo(f"Its trainings beside all others: {trainings_url(experiment_of(study_id))}")


def write_report(path: Path, comparison: Any, *, source: str) -> None:
    """Write a comparison's page.

    Raises:
        InputError: it cannot be written there.
    """
    from pipeline.comparison.page import report
    from pipeline.files import output_file

    page = report.build(comparison, source=source, written=datetime.now())
    with output_file(path) as temporary:
        temporary.write_text(page)


def send_all(sender: Any, wait: float) -> None:
    """Wait until the tracking server has everything.

    Raises:
        PipelineError: it has not after so many seconds, or waiting does not help.
    """
    if not sender.finish(wait):
        from pipeline.tracking.failures import cause

        problem = cause(sender.problem) if sender.problem else "no answer yet"
        raise PipelineError(
            f"Trained, not yet recorded: {problem}. Nothing is lost: `mlflow run . -e sync` sends it when that is "
            "mended."
        )
