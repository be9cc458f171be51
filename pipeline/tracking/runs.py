"""Writing runs: opening and ending them, and what is logged to them."""

import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Metric, Param, RunTag

from pipeline.data.images import ImageSet
from pipeline.errors import Interrupted, PipelineError
from pipeline.metrics.epoch import Epoch
from pipeline.tracking.client import connect, launcher_run, owner
from pipeline.tracking.schema import COMMAND, FAILURE, KIND, LAUNCH, OWNER, PAGE, PARENT, RUN_NAME, TRACEBACK

# MLflow's limit; the whole hash stands in a tag.
DIGEST_LENGTH = 36
LONGEST_TAG = 5000


def nest_launcher_run(name: str, *, under: str) -> None:
    """Nest the launcher's run under the run that this process continues or reads, where it explains itself.

    It has nothing of its own to show, and deleting it would make the launcher fail when it ends it.
    """
    if run_id := launcher_run():
        tags = {KIND: LAUNCH, RUN_NAME: name, PARENT: under}
        connect().log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


@contextmanager
def open_run(
    name: str, *, tags: Mapping[str, str], run_id: str | None = None, system_metrics: bool = False
) -> Iterator[str]:
    """Open a run, nested under the open one if there is one, and end it with the status its block deserves.

    Args:
        run_id: a run to continue; a new one when absent.

    Yields:
        the run's id.
    """
    connect()
    launcher_run()
    status = "FAILED"
    active = mlflow.start_run(run_id=run_id, nested=mlflow.active_run() is not None, log_system_metrics=system_metrics)
    run_id = str(active.info.run_id)
    try:
        # MLflow would otherwise show its pages for language models.
        connect().set_experiment_tag(active.info.experiment_id, "mlflow.experimentKind", "custom_model_development")
        ours = {
            RUN_NAME: name,
            OWNER: owner(),
            COMMAND: shlex.join(["python", "-m", "pipeline", *sys.argv[1:]]),
            **tags,
        }
        connect().log_batch(run_id, tags=[RunTag(key, value) for key, value in ours.items()])
        yield run_id
        if FAILURE in connect().get_run(run_id).data.tags:
            connect().delete_tag(run_id, FAILURE)
        status = "FINISHED"
    except (Interrupted, KeyboardInterrupt):
        status = "KILLED"
        raise
    except BaseException as error:
        # What went wrong matters more than a server that cannot be told so.
        with suppress(Exception):
            connect().set_tag(run_id, FAILURE, str(error)[:LONGEST_TAG] or type(error).__name__)
            if not isinstance(error, PipelineError):
                connect().log_text(run_id, traceback.format_exc(), TRACEBACK)
        raise
    finally:
        mlflow.end_run(status)


# --- Writing -------------------------------------------------------------------------------------------------------


def log_params(run_id: str, params: Mapping[str, str]) -> None:
    """Log params; where the launcher has already logged one in the user's words, ours is called NAME_used."""
    logged = connect().get_run(run_id).data.params
    ours = {name if logged.get(name, value) == value else f"{name}_used": value for name, value in params.items()}
    connect().log_batch(run_id, params=[Param(name, value) for name, value in ours.items() if name not in logged])


def log_images(images: ImageSet, name: str, *, context: str) -> None:
    """Record in the open run which images it used, with the hash of their content."""
    entry = from_numpy(images.images, targets=images.targets, name=name, digest=images.sha256[:DIGEST_LENGTH])
    mlflow.log_input(entry, context=context, tags={"sha256": images.sha256})


def log_epochs(run_id: str, epochs: Sequence[Epoch]) -> None:
    """Log all metrics of these epochs and their time, one request for up to a thousand."""
    metrics = [
        Metric(name, value, now_ms(), epoch.index)
        for epoch in epochs
        for name, value in {**epoch.metrics, "time/epoch_s": epoch.seconds}.items()
    ]
    for start in range(0, len(metrics), PAGE):
        connect().log_batch(run_id, metrics=metrics[start : start + PAGE])


def log_results(
    run_id: str, metrics: Mapping[str, float], series: Mapping[str, Mapping[int, float]] | None = None
) -> None:
    """Log final metrics in one request, all at step 0: MLflow draws them as bars, run beside run; series at theirs."""
    values: dict[str, Mapping[int, float]] = {**{name: {0: value} for name, value in metrics.items()}, **(series or {})}
    points = [Metric(name, value, now_ms(), step) for name, curve in values.items() for step, value in curve.items()]
    connect().log_batch(run_id, metrics=points)


def now_ms() -> int:
    """MLflow's time stamps are milliseconds."""
    return int(time.time() * 1000)


def mark_failed(run_id: str, reason: str) -> None:
    """Give an ended run the status FAILED and say why in a tag."""
    connect().set_tag(run_id, FAILURE, reason[:LONGEST_TAG])
    connect().set_terminated(run_id, "FAILED")


def logged_epochs(run_id: str) -> set[int]:
    """The epochs whose metrics the server has."""
    return {metric.step for metric in connect().get_metric_history(run_id, "val/loss")}


# --- Reading -------------------------------------------------------------------------------------------------------


def log_artifacts(run_id: str, folder: Path, name: str | None = None) -> None:
    """Copy a folder's content to a run."""
    connect().log_artifacts(run_id, str(folder), name)
