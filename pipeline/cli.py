"""The command line. Heavy modules are imported where they are used, so that help answers at once."""

import atexit
import difflib
import gc
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import reduce
from pathlib import Path
from typing import Any

import click

import models
from pipeline.errors import InputError, Interrupted, PipelineError, Refusal
from pipeline.files import ROOT_VARIABLE, default_root

STOPPING = (signal.SIGINT, signal.SIGTERM)
DATASETS = "digits, mnist, fashion-mnist, kmnist, emnist-digits, or a folder of IDX files"
WEIGHTS = "imagenet, none, a weights file, or a registered model models:/NAME@ALIAS; auto: imagenet where published"


class Auto(click.ParamType):
    """A value of another type, or `auto`, which stands for None: the recipe's or the machine's choice."""

    def __init__(self, inner: Any) -> None:
        self.inner = click.types.convert_type(inner)
        self.name = self.inner.name

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str:
        if isinstance(self.inner, click.Choice):
            return f"[auto|{'|'.join(self.inner.choices)}]"
        if isinstance(self.inner, (click.IntRange, click.FloatRange)):
            upper = "" if self.inner.max is None else f"<={self.inner.max}"
            return f"[auto|{self.inner.min}{'<' if self.inner.min_open else '<='}x{upper}]"
        return f"[auto|{self.name}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return None if value == "auto" else self.inner.convert(value, param, ctx)


class Commands(click.Group):
    """Commands that suggest the nearest one when a name is wrong."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            near = difflib.get_close_matches(args[0], self.commands, n=1, cutoff=0.5)
            hint = f"did you mean '{near[0]}'?" if near else f"choose one of {', '.join(self.commands)}."
            raise click.UsageError(f"There is no command '{args[0]}': {hint}")
        return super().resolve_command(ctx, args)


def options(*decorators: Callable) -> Callable:
    """Several click options as one decorator, in the order they are given."""
    return lambda command: reduce(lambda wrapped, decorator: decorator(wrapped), reversed(decorators), command)


def auto(name: str, kind: Any, text: str) -> Callable:
    """An option whose default leaves the choice to the recipe or the machine."""
    return click.option(name, type=Auto(kind), default="auto", show_default=True, help=text)


def switch(name: str, text: str) -> Callable:
    """An option that is either on or off, also when the launcher gives it a value: -P resume=true."""
    return click.option(name, type=bool, is_flag=False, flag_value=True, default=False, show_default=True, help=text)


root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    default=default_root,
    callback=lambda context, option, path: path.expanduser(),
    show_default=f"the user's cache folder, or ${ROOT_VARIABLE}",
    help="Folder for downloads, manifests and checkpoints.",
)

# What every architecture understands; where not set, the recipe in its file decides.
recipe_options = options(
    auto("--epochs", click.IntRange(1, 10_000), "Passes over the training images."),
    auto("--batch-size", click.IntRange(2, 65_536), "Images a step."),
    auto("--lr", click.FloatRange(0, 100, min_open=True), "Largest learning rate of the one-cycle schedule."),
    auto("--optimizer", click.Choice(["adam", "adamw", "sgd"]), "Optimizer."),
    auto("--weight-decay", click.FloatRange(0, 10), "Weight decay."),
    auto("--image-size", click.IntRange(8, 1024), "Side in pixels that images are resized to."),
    auto("--augment", click.Choice(["none", "shift", "affine"]), "Random changes of the training images."),
    auto("--precision", click.Choice(["fp32", "bf16", "fp16"]), "Precision of the products while training."),
    auto("--freeze", click.Choice(["none", "features"]), "Layers that do not train; auto freezes loaded weights only."),
    auto("--val-size", click.IntRange(2), "Images held out to choose the epoch; auto: a twelfth of the training file."),
    auto("--device", click.Choice(["cpu", "cuda", "mps"]), "Where to compute; auto: a GPU where there is one."),
    click.option(
        "--limit", type=click.IntRange(0), default=0, show_default=True, help="Train on so many images; 0: on all."
    ),
)


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        # `mlflow run -P batch_size=64` arrives as --batch_size 64.
        "token_normalize_func": lambda token: token.replace("_", "-"),
    },
)
def commands() -> None:
    """Train vision architectures on handwritten digits, record them in MLflow, compare them.

    The same commands as `mlflow run . -e COMMAND -P name=value`.
    """


@commands.command("main")
@click.option("--dataset", default="digits", show_default=True, help=f"{DATASETS}.")
@click.option("--models", "names", default="all", show_default=True, help="Architectures, separated by commas.")
@click.option("--seeds", type=click.IntRange(1, 1000), default=1, show_default=True, help="Trainings of each.")
@click.option("--weights", type=Auto(str), default="none", show_default=True, help=f"{WEIGHTS}.")
@root_option
@recipe_options
def main_command(dataset: str, names: str, seeds: int, weights: str | None, root: Path, **choices: Any) -> None:
    """Run a study: train every architecture, then compare. Run again, it continues where it stopped."""
    chosen = models.names() if names == "all" else split_names(names)
    from pipeline import config
    from pipeline.comparison.compare import compare
    from pipeline.data import sources
    from pipeline.registry import versions
    from pipeline.tracking import queries, runs
    from pipeline.training import study

    catch_signals()
    for name in chosen:
        config.architecture(name)
    images = sources.load(dataset, root)
    settings = split_choices(choices)
    if weights and weights.startswith("models:/"):
        # An alias may stand for another version tomorrow, and the study would be another.
        weights = versions.find(weights).uri
    configs = study.plan(chosen, seeds, images, source=weights, options=settings)
    study_key = study.key(images, source=weights, options=settings)
    outcome = study.run(images, configs, study_key=study_key, root=root)
    trainings = queries.trainings_of(outcome.run_id)
    if len(trainings) and (trainings["status"] == "FINISHED").any():
        comparison = compare(trainings, queries.read_predictions)
        show_comparison(outcome.run_id, comparison)
        with tempfile.TemporaryDirectory() as folder:
            write_report(Path(folder, "report.html"), comparison, source=f"study {outcome.run_id}")
            runs.log_artifacts(outcome.run_id, Path(folder))
    else:
        click.echo("No training finished, so there is nothing to compare.")
    if outcome.failures:
        raise PipelineError(
            f"{len(outcome.failures)} of {len(configs)} trainings failed: {', '.join(outcome.failures)}."
        )


@commands.command()
@click.option("--dataset", default="mnist", show_default=True, help=f"{DATASETS}.")
@root_option
def prepare(dataset: str, root: Path) -> None:
    """Fetch a data set, check it, describe it in a manifest and record it in MLflow."""
    from pipeline.data import manifest, sources
    from pipeline.evaluation import figures
    from pipeline.files import replacing
    from pipeline.tracking import runs, schema
    from pipeline.tracking.client import launcher_run, run_url

    catch_signals()
    images = sources.load(dataset, root)
    manifest = manifest.describe(images)
    target = root / "manifests" / f"{images.name}-{images.sha256[:12]}.json"
    with replacing(target) as temporary:
        temporary.write_text(json.dumps(manifest, indent=2) + "\n")
    tags = {schema.KIND: schema.PREPARATION, "dataset": images.name, "dataset_sha256": images.sha256}
    with (
        runs.open_run(f"prepare {images.name}", tags=tags, run_id=launcher_run()) as run_id,
        tempfile.TemporaryDirectory() as folder,
    ):
        Path(folder, "manifest.json").write_text(target.read_text())
        figures.samples(images).savefig(Path(folder, "samples.png"), dpi=110)
        runs.log_artifacts(run_id, Path(folder))
        for context, part in (("training", images.train), ("test", images.test)):
            runs.log_images(part, f"{images.name}-{context}", context=context)
    describe(manifest)
    click.echo(f"Manifest: {target}\nSamples:  {run_url(run_id)}")


@commands.command()
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
    from pipeline.training import run, weights
    from pipeline.training.state import check_build

    catch_signals()
    arguments = config.parse_arguments(model_args, option="model_args")
    task_arguments = config.parse_arguments(task_args, option="task_args")
    source = weights.find(model, weights, arguments)
    images = sources.load(dataset, root)
    start = weights.load(source, model, arguments, classes=images.classes)
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


selection_options = options(
    click.option("--study", default="latest", show_default=True, help="Run id of a study."),
    click.option("--experiment", default="", help="All trainings of this experiment instead."),
    click.option("--filter", "filter_string", default="", help="MLflow filter on them: \"params.seed = '0'\"."),
    click.option("--since", type=click.DateTime(), help="Only those that started then or later."),
    click.option("--metric", default="accuracy", show_default=True, help="What they are judged by: a column."),
    click.option("--sort", default="", help="Column to sort by; the metric by default."),
)
# Options that leave trainings out, and what they are called on the page.
NARROWING = {"filter_string": "filter", "since": "since"}


@commands.command()
@selection_options
@click.option("--against", default="", help="Lay the runs of another store beside: a folder with mlflow.db, or a URI.")
@click.option("--output", default="", help="Write the table to a file ending in .csv, .md, .json or .parquet.")
def compare(against: str, output: str, **selection: Any) -> None:
    """Compare finished trainings: which architecture is better, and how sure that is."""
    # SQLAlchemy makes a hundred thousand objects of two thousand runs: looking for garbage among them, while they are
    # read and again at the end, would double the time of the whole command.
    gc.disable()
    click.get_current_context().call_on_close(gc.enable)
    atexit.register(gc.freeze)
    from pipeline.comparison import tables
    from pipeline.tracking import runs

    if output:
        tables.check_ending(Path(output))
    study_id, comparison = select(**selection, against=against)
    if study_id:
        runs.nest_launcher_run("compare", under=study_id)
        show_comparison(study_id, comparison, log=not against and is_usual(**selection))
    else:
        tables.show(comparison)
    if output:
        tables.write(comparison, Path(output).expanduser())
        click.echo(f"Written to {output}.")


@commands.command()
@selection_options
@click.option("--output", default="report.html", show_default=True, help="Where to write the page.")
def report(output: str, **selection: Any) -> None:
    """Write a comparison as one page with tables and drawings, and log it to the study's run."""
    from pipeline.tracking import runs
    from pipeline.tracking.client import run_url

    catch_signals()
    path = Path(output).expanduser()
    if path.suffix != ".html":
        raise InputError(f"'{output}' is no page: give it the ending .html.")
    study_id, comparison = select(**selection)
    source = f"study {study_id}" if study_id else f"experiment {selection['experiment']}"
    source += "".join(f", {name} {selection[key]}" for key, name in NARROWING.items() if selection[key])
    write_report(path, comparison, source=source)
    click.echo(f"Written to {output}.")
    if study_id:
        runs.nest_launcher_run("report", under=study_id)
    if study_id and is_usual(**selection):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "report.html").write_bytes(path.read_bytes())
            runs.log_artifacts(study_id, Path(folder))
        click.echo(f"Look at it: {run_url(study_id)}")


@commands.command()
@click.option("--study", default="latest", show_default=True, help="Run id of a study.")
@click.option(
    "--model",
    default="best",
    show_default=True,
    help="best of the study, an architecture of it, all of them, or a registered model, its newest version.",
)
@click.option(
    "--version", type=Auto(click.IntRange(1)), default="auto", show_default=True, help="Of the registered model."
)
@switch("--allow-tie", "Also promote what is tied with the champion and needs fewer FLOPs an answer.")
@switch("--rollback", "Swap champion and previous champion of the model.")
@switch("--dry-run", "Show the decision without writing anything.")
def promote(study: str, model: str, version: int | None, allow_tie: bool, rollback: bool, dry_run: bool) -> None:
    """Make a registered model its name's champion, if there is evidence that it is better."""
    from pipeline.registry import promotion

    catch_signals()
    refusals = []
    versions = find_versions(study, model, version)
    file_launcher_run("promote", versions[0])
    for candidate in versions:
        try:
            if rollback:
                done = promotion.roll_back(candidate.name, dry_run=dry_run)
            else:
                done = promotion.promote(candidate, allow_tie=allow_tie, dry_run=dry_run)
            click.echo(done)
        except Refusal as refusal:
            refusals.append(refusal)
            if len(versions) > 1:
                click.echo(f"{candidate}: {refusal}", err=True)
    if len(versions) > 1 and refusals:
        raise Refusal(f"{len(refusals)} of {len(versions)} were not promoted.")
    if refusals:
        raise refusals[0]


trust_option = click.option(
    "--trust",
    default="configured",
    show_default=True,
    help="Registries and folders whose models' code may run, separated by commas.",
)
model_uri_option = options(
    click.option("--model-uri", required=True, help="A registered model: models:/NAME@ALIAS or models:/NAME/VERSION."),
    trust_option,
)


@commands.command()
@model_uri_option
@click.option("--input", "source", required=True, help="A PNG or JPEG, a folder of them, or an IDX, .npy or .csv file.")
@click.option("--output", default="predictions.csv", show_default=True, help="File ending in .csv, .jsonl or .parquet.")
@switch("--raw", "Take pictures as they are: no inverting, cropping, centring.")
def predict(model_uri: str, trust: str, source: str, output: str, raw: bool) -> None:
    """Say what a registered model takes images in files for."""
    from pipeline.inference import predict
    from pipeline.registry import loading

    catch_signals()
    path = Path(output).expanduser()
    predict.check_ending(path)
    model = loading.load(model_uri, trusted=split_names(trust))
    file_launcher_run("predict", model.version)
    answered, skipped = predict.predict(model, Path(source).expanduser(), path, raw=raw)
    click.echo(f"{model.label} answered {answered:,} images: written to {output}.")
    if skipped:
        raise PipelineError(f"{skipped:,} files or images could not be read and were skipped.")


@commands.command()
@model_uri_option
@click.option("--dataset", default="mnist", show_default=True, help=f"{DATASETS}.")
@root_option
def evaluate(model_uri: str, trust: str, dataset: str, root: Path) -> None:
    """Test a registered model on the test file of a data set and record it in MLflow."""
    from pipeline.comparison import stats
    from pipeline.data import sources
    from pipeline.registry import evaluate, loading
    from pipeline.tracking.client import run_url

    catch_signals()
    model = loading.load(model_uri, trusted=split_names(trust))
    images = sources.load(dataset, root)
    found = evaluate.evaluate(model, images)
    count, scores = len(images.test), found.scores
    low, high = stats.wilson(round(scores["accuracy"] * count), count)
    click.echo(
        f"{model.label} on {images.name}: {scores['accuracy']:.2%} of the {count:,} test images right "
        f"(95 % interval {low:.2%} to {high:.2%}), F1 {scores['f1']:.2%}, loss {scores['loss']:.4f}."
    )
    click.echo(f"Look at it: {run_url(found.run_id)}")


@commands.command()
@model_uri_option
@click.option(
    "--format",
    "form",
    type=click.Choice(["onnx", "pt2", "torchscript"]),
    default="pt2",
    show_default=True,
    help="Format of the file; onnx needs requirements-onnx.txt.",
)
@click.option("--output", default="", help="Where to write it; NAME.onnx, .pt2 or .pt in this folder by default.")
def export(model_uri: str, trust: str, form: str, output: str) -> None:
    """Write a registered model in a format that other runtimes read, and check it against the original."""
    from pipeline.registry import export, loading

    catch_signals()
    model = loading.load(model_uri, trusted=split_names(trust))
    file_launcher_run("export", model.version)
    ending = {"onnx": ".onnx", "pt2": ".pt2", "torchscript": ".pt"}[form]
    path = Path(output or f"{model.architecture}{ending}").expanduser()
    difference = export.export(model, path, form)
    click.echo(
        f"{model.label} written to {path}: uint8 images (N, {model.shape[0]}, {model.shape[1]}) to probabilities. "
        f"On {export.CHECKED} images it differs from the original by at most {difference:.1e}."
    )


@commands.command()
@click.option("--models", "names", default="all", show_default=True, help="Registered models with a champion, or URIs.")
@click.option("--dataset", default="digits", show_default=True, help="What corrected digits are added to a copy of.")
@click.option(
    "--corrections", default="corrected-digits", show_default=True, help="Folder of that copy, made with the first."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0: every one.")
@click.option(
    "--port", type=click.IntRange(0, 65_535), default=8765, show_default=True, help="Port to listen at; 0: a free one."
)
@click.option("--browser", type=bool, default=True, show_default=True, help="Open the page in the browser.")
@trust_option
@root_option
def playground(
    names: str, dataset: str, corrections: str, host: str, port: int, browser: bool, trust: str, root: Path
) -> None:
    """Draw digits on a local web page and see what every champion says."""
    from pipeline.data import sources
    from pipeline.playground import app
    from pipeline.playground.corrections import Corrections
    from pipeline.registry import loading, versions

    catch_signals()
    uris = [version.uri for version in versions.champions()] if names == "all" else split_names(names)
    if not uris:
        raise InputError("No registered model has a champion yet: run `mlflow run . -e promote -P model=all` first.")
    folder = Corrections(Path(corrections).expanduser(), lambda: sources.load(dataset, root))
    loaded = []
    for uri in uris:
        uri = uri if ":" in uri or "/" in uri else f"models:/{uri}@{versions.CHAMPION}"
        loaded.append(loading.load(uri, trusted=split_names(trust)))
        click.echo(f"Loaded {loaded[-1].label}")
    file_launcher_run("playground", loaded[0].version)
    with suppress(Interrupted):
        app.serve(loaded, folder, host=host, port=port, browser=browser)
    click.echo("Ended.")


# --- What the commands share ---------------------------------------------------------------------------------------


def split_choices(choices: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments for `config.resolve`: what the user set of the recipe goes into `overrides`."""
    others = {name: choices[name] for name in ("limit", "val_size", "device")}
    return {"overrides": {k: v for k, v in choices.items() if k not in others and v is not None}, **others}


def split_names(text: str) -> list[str]:
    """Names separated by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def file_launcher_run(name: str, version: Any) -> None:
    """Nest the launcher's run under the training of the registered version that it is about, if it is in a registry."""
    from pipeline.tracking import runs

    if version and version.run_id:
        runs.nest_launcher_run(name, under=version.run_id)


def find_study(study: str) -> str:
    """Run id of a study, the newest of the current experiment for `latest`."""
    from pipeline.tracking import queries
    from pipeline.tracking.client import current_experiment

    if study != "latest":
        return queries.get_run(study).info.run_id
    if found := queries.find_study(current_experiment()):
        return found.info.run_id
    raise InputError("There is no study to compare yet: run `mlflow run .` first, or give --experiment.")


def find_versions(study: str, model: str, version: int | None) -> list[Any]:
    """The registered versions that `promote` is to judge."""
    from pipeline.comparison.compare import compare
    from pipeline.registry import promotion, versions
    from pipeline.tracking import queries

    if model not in ("best", "all", *models.names()):
        return [versions.find(f"models:/{model}/{version or 'latest'}")]
    if version:
        raise InputError(f"--version {version} needs the --model it belongs to: a registered model.")
    trainings = promotion.best_trainings(compare(queries.trainings_of(find_study(study)), queries.read_predictions))
    if model in models.names() and model not in trainings:
        raise InputError(f"The study has no finished training of {model}: it has {', '.join(trainings)}.")
    chosen = list(trainings) if model == "all" else [next(iter(trainings)) if model == "best" else model]
    versions = []
    for name in chosen:
        try:
            versions.append(promotion.find_candidate(trainings[name]))
        except InputError as error:
            # One deleted version keeps the others from nothing.
            if model != "all":
                raise
            click.echo(str(error), err=True)
    if not versions:
        raise InputError("No training of the study has a registered model.")
    return versions


def select(
    *, study: str, experiment: str, filter_string: str, since: datetime | None, against: str = "", **choices: str
) -> tuple[str | None, Any]:
    """The study that was meant, unless it was an experiment, and the comparison of its trainings."""
    from pipeline.comparison.compare import check_columns, compare
    from pipeline.tracking import queries
    from pipeline.tracking.client import experiment_named

    check_columns(**choices)
    since_ms = round(since.timestamp() * 1000) if since else 0
    if experiment:
        study_id = None
        found = queries.trainings(experiment_named(experiment), filter_string, since_ms=since_ms)
    else:
        study_id = find_study(study)
        found = queries.trainings_of(study_id, filter_string, since_ms=since_ms)
    if against:
        import pandas as pd

        theirs = queries.trainings_elsewhere(against, filter_string, since_ms=since_ms)
        found = pd.concat([found, theirs], ignore_index=True)
        choices["sort"] = choices["sort"] or "architecture"
    return study_id, compare(found, queries.read_predictions, **choices)


def is_usual(*, metric: str, sort: str, **selection: Any) -> bool:
    """Whether it is the comparison that every study shows, which alone its run keeps."""
    return metric == "accuracy" and not sort and not any(selection[name] for name in NARROWING)


def show_comparison(study_id: str, comparison: Any, *, log: bool = True) -> None:
    """Print a study's comparison, log it to the study's run, and say where to look."""
    from pipeline.comparison import tables
    from pipeline.tracking import runs
    from pipeline.tracking.client import run_url

    tables.show(comparison)
    if log:
        with tempfile.TemporaryDirectory() as folder:
            for ending in (".csv", ".md"):
                tables.write(comparison, Path(folder, f"comparison{ending}"))
            comparison.pairs.to_csv(Path(folder, "pairs.csv"), index=False)
            runs.log_artifacts(study_id, Path(folder))
    click.echo(f"Look at it: {run_url(study_id)}")


def write_report(path: Path, comparison: Any, *, source: str) -> None:
    """Write a comparison's page."""
    from pipeline.comparison import report
    from pipeline.files import replacing

    page = report.build(comparison, source=source, written=datetime.now())
    with replacing(path) as temporary:
        temporary.write_text(page)


def describe(manifest: Mapping[str, Any]) -> None:
    """Print the findings of `prepare`."""
    for part in ("train", "test"):
        found = manifest[part]
        counts = found["images_per_class"].values()
        click.echo(
            f"{manifest['name']} {part}: {found['images']:,} images of {found['height']} x {found['width']} px, "
            f"{min(counts):,} to {max(counts):,} a class, mean {found['mean']}, standard deviation {found['std']}"
        )
        if found["absent_classes"]:
            click.echo(f"  without any image of {', '.join(found['absent_classes'])}")
    if repeated := manifest["test_images_also_in_train"]:
        click.echo(f"  {repeated:,} test images also occur in training: accuracy on them says nothing")
    click.echo(f"SHA-256 of the content: {manifest['sha256']}")


def main() -> None:
    """Run the command that the arguments name."""
    run(commands, "pipeline")


def run(command: click.Command, module: str) -> None:
    """Run a command and turn every expected failure into one sentence and an exit code."""
    for number in STOPPING:
        signal.signal(number, leave)
    try:
        command.main(prog_name=f"python -m {module}", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.ctx.get_help())
    except click.ClickException as error:
        hint = f" See {error.ctx.command_path} --help." if isinstance(error, click.UsageError) and error.ctx else ""
        fail(f"{error.format_message()}{hint}", InputError.exit_code)
    except PipelineError as error:
        fail(str(error), error.exit_code)
    except OSError as error:
        fail(f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}.", PipelineError.exit_code)
    except Interrupted as error:
        fail("Interrupted; a study goes on when it is run again, a training with --resume.", error.exit_code)
    except Exception as error:
        # What MLflow refuses is no fault of this program's; its class cannot be named without importing it.
        if not type(error).__module__.startswith("mlflow."):
            raise
        fail(f"MLflow refused: {str(error).strip().splitlines()[0]}", PipelineError.exit_code)


def catch_signals() -> None:
    """From here on there is something to end in order: unwind the stack when asked to stop."""
    for number in STOPPING:
        signal.signal(number, interrupt)


def interrupt(number: int, frame: object) -> None:
    """Signal handler that ends runs and removes temporary files on its way out.

    Later signals are ignored: on Ctrl-C the launcher adds a SIGTERM to the terminal's SIGINT.
    """
    for other in STOPPING:
        signal.signal(other, signal.SIG_IGN)
    raise Interrupted(number)


def leave(number: int, frame: object) -> None:
    """Signal handler while libraries are still being imported, which an exception could leave half done."""
    os._exit(128 + number)


def fail(message: str, exit_code: int) -> None:
    """Say what went wrong and leave."""
    click.echo(f"Error: {message}", err=True)
    sys.exit(exit_code)
