"""Writing runs: opening and ending them, and what is logged to them."""

import math
import secrets
import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import mlflow
from mlflow.data.numpy_dataset import from_numpy
from mlflow.entities import Run, RunTag
from mlflow.tracking.context.registry import resolve_tags

from pipeline.data.images import ImageSet
from pipeline.errors import Interrupted, PipelineError
from pipeline.metrics.catalog import is_of_scenes
from pipeline.metrics.epoch import Epoch
from pipeline.tracking import deliver
from pipeline.tracking.client import connect, current_experiment, launcher_run, owner
from pipeline.tracking.failures import create_once, once_more
from pipeline.tracking.journal import Journal
from pipeline.tracking.pages import choose_pages
from pipeline.tracking.schema import COMMAND, FAILURE, JOURNAL, KIND, LAUNCH, OWNER, PARENT, RUN_NAME, TRACEBACK
from pipeline.tracking.sender import Sender

# What a run uses images for.
TRAINING, VALIDATION, TEST = "training", "validation", "test"
# MLflow's limit; the whole hash stands in a tag.
DIGEST_LENGTH = 36
LONGEST_TAG = 5000


def nest_launcher_run(name: str, *, under: str | None) -> None:
    """Nest the launcher's run under the run that this process continues or reads, where it explains itself.

    It has nothing of its own to show, and deleting it would make the launcher fail when it ends it.
    """
    if run_id := launcher_run():
        tags = {KIND: LAUNCH, RUN_NAME: name, **({PARENT: under} if under else {})}
        connect().log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


@contextmanager
def recording(journal: Journal, sender: Sender, *, tags: Mapping[str, str]) -> Iterator[None]:
    """Say in a journal that its run begins, and, when the block ends early, how; that it is finished the block says.

    Raises:
        PipelineError: the server refuses the run.
    """
    launcher_run()
    begun_before = bool(journal.said("open"))
    journal.say("open", {"time": now_ms(), "tags": {**resolve_tags(), **origin(), **tags}})
    sender.add(journal)
    try:
        sender.first_word(journal)
    except PipelineError:
        sender.leave(journal, forget=not begun_before)
        raise
    try:
        yield
    except (Interrupted, KeyboardInterrupt):
        end(journal, "KILLED")
        raise
    except BaseException as error:
        # What went wrong matters more than a full disk that the journal cannot be written to.
        with suppress(Exception):
            if not isinstance(error, PipelineError):
                with journal.workspace() as folder:
                    (folder / "failure").mkdir()
                    (folder / "failure" / TRACEBACK).write_text(traceback.format_exc())
                    journal.say("artifacts", files=folder / "failure")
            end(journal, "FAILED", failure=str(error) or type(error).__name__)
        raise
    finally:
        sender.leave(journal)


def end(journal: Journal, status: str, *, failure: str = "") -> None:
    """Say that the run has ended."""
    journal.say("end", {"status": status, "time": now_ms(), "failure": failure[:LONGEST_TAG]})


def command_line() -> str:
    """The command of this process, as a user would type it."""
    return shlex.join(["python", "-m", "pipeline", *sys.argv[1:]])


def origin() -> dict[str, str]:
    """The tags that tell where a run comes from."""
    return {OWNER: owner(), COMMAND: command_line()}


@contextmanager
def open_run(name: str, *, tags: Mapping[str, str], run_id: str | None = None) -> Iterator[str]:
    """Open a run on the server at once, without a journal, and end it with the status its block deserves.

    Args:
        run_id: a run to continue; a new one when absent.

    Yields:
        the run's id.
    """
    status = "FAILED"
    active = mlflow.start_run(run_id=run_id or create_run())
    run_id = str(active.info.run_id)
    try:
        once_more(partial(choose_pages, connect(), active.info.experiment_id))
        ours = {RUN_NAME: name, **origin(), **tags}
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


def create_run() -> str:
    """Id of a new run."""
    experiment, key = current_experiment(), secrets.token_hex(16)

    def find() -> Run | None:
        return next(iter(connect().search_runs([experiment], f"tags.{JOURNAL} = '{key}'")), None)

    created = create_once(find, lambda: connect().create_run(experiment, tags={**resolve_tags(), JOURNAL: key}))
    return str(created.info.run_id)


# --- What runs say -------------------------------------------------------------------------------------------------


def say_images(journal: Journal, images: ImageSet, name: str, *, context: str) -> None:
    """Say which images the run uses, with the hash of their content."""
    journal.say("input", {"dataset": describe_images(images, name), "context": context, "sha256": images.sha256})


def log_images(run_id: str, images: ImageSet, name: str, *, context: str) -> dict[str, str]:
    """The same, to the server at once; what MLflow keeps of the data set."""
    entry = describe_images(images, name)
    deliver.send_input(connect(), run_id, entry, context=context, sha256=images.sha256)
    return entry


def describe_images(images: ImageSet, name: str) -> dict[str, str]:
    """What MLflow keeps of a data set."""
    entry = from_numpy(images.images, targets=images.targets, name=name, digest=images.sha256[:DIGEST_LENGTH])
    return entry.to_dict()


def measured_on(journal: Journal, metric: str) -> dict[str, str] | None:
    """Name and digest of the data set, among the inputs that a run said, that a metric was measured on, if on one."""
    part, score = metric.split("/", 1)
    context = {"val": VALIDATION, "test": TEST}.get(part)
    inputs = [record.content["dataset"] for record in journal.said("input") if record.content["context"] == context]
    if not inputs:
        return None
    # The images themselves come first, scenes made of them after.
    entry = inputs[-1 if is_of_scenes(score) else 0]
    return {"name": entry["name"], "digest": entry["digest"]}


def say_epoch(journal: Journal, epoch: Epoch) -> None:
    """Say what an epoch brought, once."""
    values = {**epoch.metrics, "time/epoch_s": epoch.seconds}
    points = [(name, value, now_ms(), epoch.index) for name, value in values.items()]
    journal.say("metrics", {"points": finite(points)}, once=f"epoch {epoch.index}")


def final_points(
    metrics: Mapping[str, float], series: Mapping[str, Mapping[int, float]] | None = None
) -> list[tuple[str, float, int, int]]:
    """Final metrics, all at step 0: MLflow draws them as bars, run beside run; series at their steps."""
    values: dict[str, Mapping[int, float]] = {**{name: {0: value} for name, value in metrics.items()}, **(series or {})}
    return finite([(name, value, now_ms(), step) for name, curve in values.items() for step, value in curve.items()])


def finite(points: Sequence[tuple[str, float, int, int]]) -> list[tuple[str, float, int, int]]:
    """Without what is no number, such as the score of a class that does not occur: not every store can keep it."""
    return [point for point in points if math.isfinite(point[1])]


def log_results(
    run_id: str,
    metrics: Mapping[str, float],
    *,
    model_id: str | None = None,
    dataset: Mapping[str, str] | None = None,
) -> None:
    """Log final metrics to the server at once, as `deliver.send_metrics` does it."""
    deliver.send_metrics(connect(), run_id, final_points(metrics), model_id=model_id, dataset=dataset)


def log_tags(run_id: str, tags: Mapping[str, str]) -> None:
    """Give a run tags at once."""
    connect().log_batch(run_id, tags=[RunTag(key, value) for key, value in tags.items()])


def now_ms() -> int:
    """MLflow's time stamps are milliseconds."""
    return int(time.time() * 1000)


def log_artifacts(run_id: str, folder: Path) -> None:
    """Copy a folder's content to a run."""
    connect().log_artifacts(run_id, str(folder))
