"""Who continues what: how far a training or a study is, in this root folder and on the server."""

import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from pipeline.config import TrainConfig
from pipeline.errors import InputError
from pipeline.tracking import lease, queries, schema
from pipeline.tracking.client import chosen_experiment, connect, current_experiment, tracking_uri
from pipeline.tracking.failures import is_away
from pipeline.tracking.journal import Journal, Removed, journals, new_folder, ours
from pipeline.tracking.sender import Sender
from pipeline.tracking.training_run import is_finished

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """Where runs go now.

    Attributes:
        client: of the tracking server, None while it is away.
        experiment_id: None where only the server could tell.
        patient: whether to wait for the lease of somebody who may be gone, as on a node of a cluster that was lost.
    """

    root: Path
    client: mlflow.MlflowClient | None
    experiment_id: str | None
    patient: bool = False

    def journals(self, **wanted: Any) -> list[tuple[Path, dict[str, Any]]]:
        """The journals of runs that belong here, newest first, of which these things are known."""
        return [
            (folder, about)
            for folder, about in journals(self.root)
            if ours(about, uri=tracking_uri(), experiment_id=self.experiment_id)
            and all(about.get(name) == value for name, value in wanted.items())
        ]


def find_place(root: Path, *, patient: bool = False) -> Place:
    """Where runs go now; a tracking server that is away is not waited for."""
    try:
        client = connect()
        return Place(root, client, current_experiment(), patient)
    except Exception as error:
        if not is_away(error):
            raise
        return Place(root, None, chosen_experiment().get("id"), patient)


def answer(ask: Callable[[], list[Run]]) -> list[Run]:
    """The runs that the server names, none of them while it is away."""
    try:
        return ask()
    except Exception as error:
        if not is_away(error):
            raise
        return []


@dataclass(frozen=True)
class Standing:
    """How far a training is.

    Attributes:
        journal: to go on with.
        finished: whether it has its results.
        run_id: of the run that has them, None where it is not recorded yet.
        trial: whether it was to have no version in the registry.
    """

    journal: Journal | None = None
    finished: bool = False
    run_id: str | None = None
    trial: bool = False


def begin_training(config: TrainConfig, root: Path, *, study: Mapping[str, str] | None, name: str) -> Journal:
    """A new journal of a training."""
    return begin(root, schema.TRAINING, name, study=study, config_key=config.key, config=config.params())


def begin(root: Path, kind: str, name: str, **about: Any) -> Journal:
    """A new journal of a run."""
    journal = Journal(new_folder(root), doing=f"{name} is being trained", new=True)
    experiment = chosen_experiment()
    journal.note(kind=kind, name=name, tracking_uri=tracking_uri(), experiment=experiment, began=time.time(), **about)
    # The launcher's run is the study's or the training's that it was made for.
    if (run_id := experiment.get("run_id")) and not about.get("study"):
        journal.note(run_id=run_id)
    return journal


def find_training(config: TrainConfig, place: Place, sender: Sender, *, study: Mapping[str, str] | None) -> Standing:
    """How far a training of this config is, of this study or of any where none is given.

    What an interrupted training left is removed where another has finished meanwhile; a run that nobody trains any
    more is closed.

    Raises:
        InputError: somebody trains it now, and whoever asks is not patient.
    """
    on_server = find_on_server(config, place, study)
    finished = next(filter(is_finished, on_server), None)
    found: Journal | None = None
    for folder, about in place.journals(kind=schema.TRAINING, config_key=config.key):
        if study and (about.get("study") or {}).get("key") != study["key"]:
            continue
        try:
            journal = Journal(folder, doing=f"{about['name']} is being trained")
        except Removed:
            # The server has it now, which may not have had it when it was asked.
            if found:
                found.close()
            return find_training(config, place, sender, study=study)
        if journal.ended == "FINISHED":
            sender.add(journal)
            sender.leave(journal)
            return Standing(
                finished=True, run_id=journal.run_id, trial=schema.TRIAL in journal.said("open")[-1].content["tags"]
            )
        outdated = finished is not None and finished.info.start_time / 1000 > about["began"]
        if outdated or is_gone(journal, place):
            close(journal.run_id, place)
            journal.remove()
        elif found is None:
            found = journal
        else:
            journal.close()
    for run in on_server:
        # By the key, too: its process may have been killed before it knew of the run that it had made.
        own = found and (run.info.run_id == found.run_id or run.data.tags.get(schema.JOURNAL) == found.key)
        if run.info.status == "RUNNING" and not own:
            if holder := lease.read(run):
                if found:
                    found.close()
                if place.patient:
                    logger.info("%s was being trained by %s: waiting for that.", run.info.run_name, holder)
                    time.sleep(max(0.0, holder.until - time.time()))
                    return find_training(config, place, sender, study=study)
                raise InputError(f"{run.info.run_name} is being trained by {holder}: wait for it to end.")
            close(run.info.run_id, place)
    if found is None and finished is not None:
        return Standing(finished=True, run_id=finished.info.run_id, trial=schema.TRIAL in finished.data.tags)
    return Standing(journal=found)


def find_on_server(config: TrainConfig, place: Place, study: Mapping[str, str] | None) -> list[Run]:
    """The server's trainings of this config, newest first; none while it is away."""
    experiment = place.experiment_id
    if place.client is None or experiment is None:
        return []
    parent = study["run_id"] if study else None
    found = answer(lambda: queries.find_trainings(experiment, config.key, parent=parent))
    # The launcher's run says RUNNING before anything is known of it.
    return [run for run in found if run.info.run_id != chosen_experiment().get("run_id")]


def is_gone(journal: Journal, place: Place) -> bool:
    """Whether the server has the run of a journal no more."""
    if place.client is None:
        return False
    if journal.run_id is None:
        # Its process may have been killed before it knew of the run that it had made.
        made = [place.experiment_id] if place.experiment_id else []
        return bool(place.client.search_runs(made, f"tags.{schema.JOURNAL} = '{journal.key}'", ViewType.DELETED_ONLY))
    try:
        return place.client.get_run(journal.run_id).info.lifecycle_stage != "active"
    except MlflowException as error:
        return error.error_code == "RESOURCE_DOES_NOT_EXIST"


def close(run_id: str | None, place: Place) -> None:
    """Give a run that nobody trains any more the status KILLED."""
    if place.client and run_id:
        with suppress(MlflowException):
            if place.client.get_run(run_id).info.status == "RUNNING":
                place.client.set_terminated(run_id, "KILLED")


def find_search(search_key: str, name: str, place: Place) -> Journal:
    """The journal of the search of this key, as `find_study`; several machines may run it at once.

    Raises:
        InputError: another process here holds it.
    """
    journal = newest_journal(schema.SEARCH, search_key, place) or begin(
        place.root, schema.SEARCH, name, study_key=search_key
    )
    if place.client and place.experiment_id:
        for earlier in queries.find_studies(place.experiment_id, search_key, kind=schema.SEARCH, most=1):
            journal.note(run_id=earlier.info.run_id)
    return journal


def find_study(study_key: str, name: str, place: Place) -> Journal:
    """The journal of the study of this key, of an earlier one where there is one here or on the server.

    Raises:
        InputError: somebody runs it now.
    """
    journal = newest_journal(schema.STUDY, study_key, place) or begin(
        place.root, schema.STUDY, name, study_key=study_key
    )
    if place.client and place.experiment_id and (earlier := queries.find_study(place.experiment_id, study_key)):
        holder = lease.read(earlier)
        if holder and holder.holder != journal.key:
            journal.close()
            raise InputError(f"This study is being run by {holder}: wait for it to end.")
        journal.note(run_id=earlier.info.run_id)
    return journal


def newest_journal(kind: str, key: str, place: Place) -> Journal | None:
    """The newest journal here of a study or search that is not deleted; others of the same key are removed."""
    journal = None
    for folder, _ in place.journals(kind=kind, study_key=key):
        try:
            found = Journal(folder, doing=f"This {kind} is being run")
        except Removed:
            continue
        if journal or is_gone(found, place):
            found.remove()
        else:
            journal = found
    return journal


def take_over(study_key: str, place: Place, sender: Sender) -> None:
    """Send what the processes of a study could not send before they ended."""
    held = {journal.key for journal in sender.journals}
    for folder, about in place.journals(kind=schema.TRAINING):
        if (about.get("study") or {}).get("key") == study_key and folder.name not in held:
            with suppress(Removed):
                journal = Journal(folder, doing=f"{about['name']} is being trained")
                sender.add(journal)
                sender.leave(journal)


def check_rivals(journal: Journal, study_key: str, place: Place) -> None:
    """Leave the field to another that began the same study at the same moment: the earlier one, if it still runs it.

    Raises:
        InputError: who runs it.
    """
    experiment = place.experiment_id
    if place.client is None or experiment is None or journal.run_id is None:
        return
    found = answer(lambda: queries.find_studies(experiment, study_key))
    running = [(run.info.start_time, run.info.run_id, holder) for run in found if (holder := lease.read(run))]
    _, first, holder = min(running, default=(0, journal.run_id, None))
    if first != journal.run_id:
        raise InputError(f"This study is being run by {holder}: wait for it to end.")


def cut_by_another_version(config: TrainConfig, place: Place) -> str:
    """Name of an interrupted training of the same options whose loop computed otherwise, empty where there is none."""

    def options(params: Mapping[str, str]) -> dict[str, str]:
        return {name: value for name, value in params.items() if name != "training_version"}

    for folder, about in place.journals(kind=schema.TRAINING):
        if about["config_key"] != config.key and options(about["config"]) == options(config.params()):
            return folder.name
    return ""
