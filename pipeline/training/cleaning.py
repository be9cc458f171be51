"""What trials, failures and deleted runs left on the server and in the root folder, and how to remove it.

Runs and logged models are deleted as MLflow does it: `mlflow runs restore` brings them back until `mlflow gc`.
Versions of registered models and files of the root folder are gone for good.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from getpass import getuser
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError
from pipeline.registry import versions
from pipeline.registry.versions import Version
from pipeline.tracking import lease, queries, schema
from pipeline.tracking.client import owner
from pipeline.tracking.journal import Journal, Removed, journals
from pipeline.tracking.training_run import is_finished
from pipeline.training.continuation import Place, is_gone

# Where the launcher finds this project.
PROJECT = Path(__file__).resolve().parents[2]
# To install what is needed takes less.
LAUNCH_S = 3600
# Other projects may call theirs otherwise, or nothing.
KINDS = (
    schema.STUDY,
    schema.TRAINING,
    schema.EVALUATION,
    schema.PREPARATION,
    schema.LAUNCH,
    schema.SEARCH,
    schema.SEARCH_TRIAL,
)


@dataclass(frozen=True)
class Leftover:
    """Something that can go.

    Attributes:
        what, why: for people.
        remove: does it.
    """

    what: str
    why: str
    remove: Callable[[], None]


# --- On the server -------------------------------------------------------------------------------------------------


def find_runs(client: mlflow.MlflowClient, experiment: str, root: Path) -> Iterator[Leftover]:
    """Trials, runs that failed or were interrupted and cannot go on, and studies of which nothing else stays.

    What has a version in the registry is no trial any more. What another user or machine has begun may go on there,
    from a checkpoint that nobody sees from here.
    """
    continued = {about.get("run_id") for _, about in journals(root)}
    found = queries.find_runs(experiment, "", client=client)
    runs = [run for run in found if is_ours(run) and run.info.run_id not in continued and not lease.read(run)]
    going = {run.info.run_id: why for run in runs if (why := why_left(client, run))}
    for study in runs:
        if study.data.tags[schema.KIND] == schema.STUDY:
            within = [run for run in found if run.data.tags.get(schema.PARENT) == study.info.run_id]
            trainings = [run.info.run_id for run in within if run.data.tags.get(schema.KIND) == schema.TRAINING]
            if going.keys() >= set(trainings) and (trainings or is_here(study)):
                why = "nothing else of it stays"
                going |= {study.info.run_id: why, **{run.info.run_id: why for run in within}} | going
    for run in found:
        if why := going.get(run.info.run_id) or why_not_begun(run):
            yield leftover(client, run, why)


def why_left(client: mlflow.MlflowClient, run: Run) -> str:
    """Why a run that nobody uses any more can go, empty where it can not, and of a study, which goes as a whole."""
    status, why = run.info.status, ""
    if run.data.tags[schema.KIND] == schema.STUDY:
        return ""
    if schema.TRIAL in run.data.tags and is_finished(run):
        why = "a trial"
    elif run.data.tags[schema.KIND] == schema.SEARCH_TRIAL and status == "FINISHED":
        why = "a trial of a search, which keeps what it needs of it"
    elif is_here(run) and status == "RUNNING" and schema.LEASE in run.data.tags:
        why = "nobody trains it any more"
    elif is_here(run):
        why = {"FAILED": "it failed", "KILLED": "it was interrupted"}.get(status, "")
    return "" if why and registered(client, run) else why


def why_not_begun(run: Run) -> str:
    """Why a run can go that the launcher made for this project, and in which nothing was done; empty where not."""
    tags = run.data.tags
    launched = tags.get(schema.LAUNCHED_FROM, "").removeprefix("file://") == str(PROJECT)
    if schema.KIND in tags or schema.ENTRY_POINT not in tags or not launched or tags.get(schema.USER) != getuser():
        return ""
    if run.info.status == "RUNNING" and time.time() - run.info.start_time / 1000 > LAUNCH_S:
        return "its launch never came to its end"
    return "its launch failed" if run.info.status == "FAILED" else ""


def find_study(client: mlflow.MlflowClient, study_id: str, root: Path) -> Iterator[Leftover]:
    """A study or search with its trainings, their versions and evaluations, and what the root folder holds of them.

    Raises:
        InputError: there is no such study, or it is being run.
    """
    study = queries.get_run(study_id)
    kind = study.data.tags.get(schema.KIND)
    if kind not in schema.PARENTS:
        raise InputError(f"The run {study_id} is no study: give the run id of one.")
    if holder := lease.read(study):
        raise InputError(f"This {kind} is being run by {holder}: wait for it to end.")
    why, experiment = f"of the {kind} {study.info.run_name}", study.info.experiment_id
    within = queries.find_runs(experiment, f"tags.`{schema.PARENT}` = '{study_id}'", client=client)
    for run in within:
        for version in registered(client, run):
            champion = versions.aliased(version.name, versions.CHAMPION)
            rank = ", the champion" if champion and champion.number == version.number else ""
            yield Leftover(f"{version}{rank}", why, partial(remove_version, client, version))
            for evaluation in queries.find_runs(
                experiment, f"tags.{schema.MODEL_URI} = '{version.uri}'", client=client
            ):
                yield leftover(client, evaluation, f"about {version}")
    for run in [*within, study]:
        yield leftover(client, run, why)
    gone = {run.info.run_id for run in [*within, study]}
    for folder, about in journals(root):
        if about.get("run_id") in gone:
            yield Leftover(
                f"journal {folder.name} of {about['name']}{size(folder)}", why, partial(remove_journal, folder)
            )


def is_ours(run: Run) -> bool:
    """Whether this project made a run; others may share the experiment and the tag."""
    tags = run.data.tags
    return tags.get(schema.KIND) in KINDS and (schema.OWNER in tags or tags[schema.KIND] == schema.LAUNCH)


def is_here(run: Run) -> bool:
    """Whether this user made a run on this machine, as far as it tells."""
    return run.data.tags.get(schema.OWNER, owner()) == owner()


def leftover(client: mlflow.MlflowClient, run: Run, why: str) -> Leftover:
    """A run, with the models that it logged."""
    return Leftover(f"run {run.info.run_name} ({run.info.run_id})", why, partial(remove_run, client, run))


def registered(client: mlflow.MlflowClient, run: Run) -> list[Version]:
    """The versions that were made from a run."""
    return list(map(Version.of, client.search_model_versions(f"run_id = '{run.info.run_id}'")))


def remove_run(client: mlflow.MlflowClient, run: Run) -> None:
    """Delete a run and the models that it logged."""
    for output in run.outputs.model_outputs if run.outputs else []:
        with suppress(MlflowException):
            client.delete_logged_model(output.model_id)
    client.delete_run(run.info.run_id)


def remove_version(client: mlflow.MlflowClient, version: Version) -> None:
    """Delete a version, and its name when it was the last one."""
    client.delete_model_version(version.name, version.number)
    if versions.versions(version.name):
        versions.describe(version.name, client=client)
    else:
        client.delete_registered_model(version.name)


# --- In the root folder --------------------------------------------------------------------------------------------


def find_journals(place: Place) -> Iterator[Leftover]:
    """Journals, with their checkpoints, whose runs are gone or finished, and those that were set aside."""
    for folder in sorted((place.root / "journals").glob(".*")):
        if folder.is_dir():
            why = "damaged" if folder.suffix == ".damaged" else "half removed"
            yield Leftover(f"folder {folder.name}{size(folder)}", why, partial(shutil.rmtree, folder))
    for folder, about in place.journals():
        if why := why_orphaned(folder, about, place):
            yield Leftover(
                f"journal {folder.name} of {about['name']}{size(folder)}", why, partial(remove_journal, folder)
            )


def why_orphaned(folder: Path, about: dict[str, Any], place: Place) -> str:
    """Why a journal is of no use any more, empty where it is: there is something to send, or to go on with."""
    try:
        journal = Journal(folder, doing=f"{about['name']} is being trained")
    except InputError:
        return ""
    try:
        if is_gone(journal, place):
            return "its run was deleted"
        return "its run is finished" if journal.ended == "FINISHED" and journal.all_sent else ""
    finally:
        journal.close()


def remove_journal(folder: Path) -> None:
    """Forget a journal, unless another process has just begun to use it."""
    with suppress(Removed):
        Journal(folder, doing="This run is being trained").remove()


def size(folder: Path) -> str:
    """How much a folder holds, for people."""
    found = 0
    for place, _, names in os.walk(folder):
        for name in names:
            # Another process may be removing them.
            with suppress(FileNotFoundError):
                found += Path(place, name).stat().st_size
    return f", {found / 1e6:,.1f} MB"
