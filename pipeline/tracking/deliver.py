"""What a journal holds, told to the tracking server: each delivery may be repeated and is then done once."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import mlflow
from mlflow.entities import (
    Dataset,
    DatasetInput,
    InputTag,
    Metric,
    Param,
    Run,
    RunTag,
    ViewType,
)
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from pipeline.errors import PipelineError
from pipeline.tracking import lease, queries
from pipeline.tracking.client import find_experiment
from pipeline.tracking.failures import ServerAway, create_once
from pipeline.tracking.journal import Journal, Record
from pipeline.tracking.pages import choose_pages
from pipeline.tracking.schema import (
    FAILURE,
    JOURNAL,
    LEASE,
    PAGE,
    PARENT,
    PARENTS,
    RUN_NAME,
    SEARCH,
    SEARCH_TRIAL,
    STUDY,
    STUDY_KEY,
    TRACEBACK,
)

Delivery = Callable[[mlflow.MlflowClient, Journal, Record], None]


def open_run(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Create the run, or go on with the one there is."""
    about, content = journal.about, record.content
    experiment = find_experiment(client, about["experiment"])
    tags = {JOURNAL: journal.key, LEASE: lease.write(journal.key), RUN_NAME: about["name"], **content["tags"]}
    if study := about.get("study"):
        tags[PARENT] = study_run(client, experiment, study, kind=SEARCH if about["kind"] == SEARCH_TRIAL else STUDY)
    found = run_of(client, journal, experiment)
    if found is None and about["kind"] in PARENTS:
        found = earlier_study(client, experiment, about["study_key"], kind=about["kind"])
    if found is None:
        found = create_once(
            partial(run_of, client, journal, experiment),
            partial(client.create_run, experiment, content["time"], tags, about["name"]),
        )
        choose_pages(client, experiment)
    else:
        client.log_batch(found.info.run_id, tags=[RunTag(name, value) for name, value in tags.items()])
        client.update_run(found.info.run_id, "RUNNING")
    journal.note(run_id=found.info.run_id, experiment_id=found.info.experiment_id)


def run_of(client: mlflow.MlflowClient, journal: Journal, experiment: str) -> Run | None:
    """The run that a journal is of, if there is one on the server.

    Raises:
        PipelineError: it was deleted.
    """
    if journal.run_id:
        found = [client.get_run(journal.run_id)]
    else:
        found = list(client.search_runs([experiment], f"tags.{JOURNAL} = '{journal.key}'", ViewType.ALL))
    if not found:
        return None
    if found[0].info.lifecycle_stage != "active":
        raise was_deleted(found[0].info.run_id, of=journal.about["name"])
    return found[0]


def was_deleted(run_id: str, *, of: str) -> PipelineError:
    """What to say where something is to be recorded in a deleted run."""
    return PipelineError(f"The run of {of} was deleted: bring it back with mlflow runs restore --run-id {run_id}.")


def earlier_study(client: mlflow.MlflowClient, experiment: str, key: str, *, kind: str) -> Run | None:
    """The study or search that one begun without knowing it goes on with: the server was away. One that is run is not.

    A search may be run by several at once.
    """
    found = queries.find_studies(experiment, key, kind=kind, most=1, client=client)
    return found[0] if found and (kind == SEARCH or not lease.read(found[0])) else None


def study_run(client: mlflow.MlflowClient, experiment: str, study: Mapping[str, str], *, kind: str) -> str:
    """Id of the run of the study or search that a training belongs to.

    Args:
        study: the key of the study's journal, and the study's own, which is another one's when it was continued from
            elsewhere.

    Raises:
        ServerAway: another process has not recorded it yet.
        PipelineError: it was deleted.
    """
    for tag, key in ((JOURNAL, study["journal"]), (STUDY_KEY, study["key"])):
        if found := queries.find_studies(experiment, key, kind=kind, tag=tag, most=1, client=client):
            return found[0].info.run_id
    if not study["run_id"]:
        raise ServerAway(f"The {kind} of this training is not recorded yet.")
    raise was_deleted(study["run_id"], of=f"the {kind}")


def run_id_of(journal: Journal) -> str:
    """Id of a run that was opened."""
    assert journal.run_id is not None, "the first delivery of a journal opens its run"
    return journal.run_id


def log_params(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Log params; where the launcher has already logged one in the user's words, ours is called NAME_used."""
    run_id, params = run_id_of(journal), record.content
    logged = client.get_run(run_id).data.params
    ours = {name if logged.get(name, value) == value else f"{name}_used": value for name, value in params.items()}
    client.log_batch(run_id, params=[Param(name, value) for name, value in ours.items() if name not in logged])


def log_metrics(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Log values: what is there already with the same step and time is not logged twice."""
    send_metrics(client, run_id_of(journal), record.content["points"])


def send_metrics(
    client: mlflow.MlflowClient,
    run_id: str,
    points: Sequence[Sequence[Any]],
    *,
    model_id: str | None = None,
    dataset: Mapping[str, str] | None = None,
) -> None:
    """Log points (name, value, milliseconds since 1970, step), a thousand in a request.

    Args:
        model_id: the logged model that has these values, too.
        dataset: name and digest of the data set, among the run's inputs, that they are measured on.
    """
    name, digest = (dataset["name"], dataset["digest"]) if dataset else (None, None)
    metrics = [
        Metric(key, value, time, step, model_id=model_id, dataset_name=name, dataset_digest=digest)
        for key, value, time, step in points
    ]
    for start in range(0, len(metrics), PAGE):
        client.log_batch(run_id, metrics=metrics[start : start + PAGE])


def log_input(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Record a data set that the run used."""
    content = record.content
    send_input(client, run_id_of(journal), content["dataset"], context=content["context"], sha256=content["sha256"])


def send_input(
    client: mlflow.MlflowClient, run_id: str, dataset: Mapping[str, str], *, context: str, sha256: str
) -> None:
    """Record a data set, described as MLflow's `to_dict` does it, as an input of a run."""
    tags = [InputTag("mlflow.data.context", context), InputTag("sha256", sha256)]
    client.log_inputs(run_id, datasets=[DatasetInput(Dataset(**dataset), tags)])


def log_artifacts(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Copy a folder's content to the run."""
    client.log_artifacts(run_id_of(journal), str(record.files))


def end_run(client: mlflow.MlflowClient, journal: Journal, record: Record) -> None:
    """Give the run the status it deserves, and say why it failed or take back that it did."""
    run_id, content = run_id_of(journal), record.content
    run = client.get_run(run_id)
    if failure := content["failure"]:
        client.set_tag(run_id, FAILURE, failure)
    elif content["status"] == "FINISHED" and FAILURE in run.data.tags:
        client.delete_tag(run_id, FAILURE)
        # Not every store of artifacts can delete.
        with suppress(Exception):
            get_artifact_repository(run.info.artifact_uri).delete_artifacts(TRACEBACK)
    client.set_terminated(run_id, content["status"], content["time"])


DELIVERIES: dict[str, Delivery] = {
    "open": open_run,
    "params": log_params,
    "metrics": log_metrics,
    "system": log_metrics,
    "input": log_input,
    "artifacts": log_artifacts,
    "end": end_run,
}
