"""One training from its config to a finished MLflow run, resumable after every epoch."""

import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path

from mlflow.entities import Run

from pipeline.comparison import protocol
from pipeline.config import TrainConfig
from pipeline.data.images import Dataset
from pipeline.data.splits import split
from pipeline.errors import PipelineError
from pipeline.evaluation import profiling
from pipeline.tracking import queries, runs, schema
from pipeline.tracking.client import current_experiment, owner
from pipeline.tracking.training_run import is_finished
from pipeline.training.checkpoint import Checkpoint
from pipeline.training.evaluate import Result, test
from pipeline.training.loop import fit
from pipeline.training.progress import Progress
from pipeline.training.record import budget, record, training_tags
from pipeline.training.state import Training
from pipeline.training.weights import FRESH, InitialWeights


def train(
    config: TrainConfig,
    dataset: Dataset,
    *,
    root: Path,
    start: InitialWeights = FRESH,
    run_id: str | None = None,
) -> Result:
    """Train, test and record one config.

    Args:
        start: the weights to start from; not needed when a checkpoint of the run exists.
        run_id: a run to continue; its checkpoint is used if there is one.

    Raises:
        InputError: the config cannot be built, or another process trains this run.
        PipelineError: the loss became infinite or not a number.
    """
    started = time.perf_counter()
    splits = split(dataset, val_size=config.val_size, limit=config.limit)
    training = Training(config, splits, start.state)
    name = f"{config.model} seed {config.seed}"
    tags = training_tags(
        config,
        protocol_fields=protocol.fields(dataset, splits),
        budget=budget(config, splits),
        examined_on=training.task.examined_on,
    ) | {schema.MACHINE: profiling.machine(training.device)}
    if start.lineage:
        tags[schema.LINEAGE] = start.lineage
    with ExitStack() as stack:
        # A run to continue is locked before it is opened: if another process trains it, its status must not change.
        if run_id:
            stack.enter_context(Checkpoint(root, run_id).locked())
        opened = stack.enter_context(runs.open_run(name, tags=tags, run_id=run_id, system_metrics=True))
        checkpoint = Checkpoint(root, opened)
        if not run_id:
            stack.enter_context(checkpoint.locked())
        run_id = opened
        runs.log_params(run_id, config.params())
        if saved := checkpoint.load():
            training.load_state_dict(saved["training"])
            started -= saved["elapsed"]
            logged = runs.logged_epochs(run_id)
            missing = [epoch for epoch in training.history if epoch.index not in logged]
            runs.log_epochs(run_id, missing)
        else:
            runs.log_images(dataset.train, f"{dataset.name}-training", context="training")
            for kind, part in training.task.samples(dataset.test).items():
                suffix = "" if kind == "single" else f"-{kind}"
                runs.log_images(part, f"{dataset.name}-test{suffix}", context="test")

        meter = profiling.Meter(training.device)
        try:
            with Progress(config, steps=training.steps, done=len(training.history)) as progress:
                for epoch in fit(training, report=progress.step):
                    meter.update()
                    # The checkpoint first: what it holds is logged on resuming, what only the server had would be lost.
                    elapsed = time.perf_counter() - started
                    checkpoint.save(training=training.state_dict(), config=config.params(), elapsed=elapsed)
                    runs.log_epochs(run_id, [epoch])
                    progress.epoch(epoch)
        except PipelineError:
            # It diverged, and would again.
            checkpoint.remove()
            raise

        spent = meter.read()
        if saved:
            # What was used before the training was cut is not known.
            spent.pop("energy_j", None)
        result = test(run_id, training, splits, spent)
        record(result, training, dataset, splits, start, total_s=time.perf_counter() - started)
    # Only now that the run has its status: killed before, it is resumed to do the rest.
    checkpoint.remove()
    return result


def cut_by_another_version(config: TrainConfig, root: Path) -> str | None:
    """An interrupted training of the same options whose loop computed otherwise, so that it cannot go on here."""
    where = (
        f"tags.{schema.ARCHITECTURE} = '{config.model}' and tags.{schema.DATASET_SHA256} = '{config.dataset_sha256}'"
    )
    own = f"{where} and tags.{schema.OWNER} = '{owner()}' and tags.{schema.CONFIG_KEY} != '{config.key}'"
    wanted = {name: value for name, value in config.params().items() if name != "training_version"}
    for run in queries.find_runs(current_experiment(), own):
        logged = run.data.params
        same = all(logged.get(f"{name}_used", logged.get(name)) == value for name, value in wanted.items())
        if same and (cut := resumable([run], root)):
            return cut
    return None


def resumable(found: Iterable[Run], root: Path) -> str | None:
    """The first of these runs that was cut and can go on here.

    After a kill -9 a run still says RUNNING; where something other than the training failed, a full disk perhaps, its
    checkpoint is left. A run with epochs but no checkpoint would log them twice.
    """
    for run in found:
        if Checkpoint(root, run.info.run_id).exists():
            has_place = not is_finished(run)
        else:
            has_place = run.info.status in ("RUNNING", "KILLED") and "val/loss" not in run.data.metrics
        if has_place:
            return run.info.run_id
    return None
