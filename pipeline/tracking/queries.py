"""Reading runs: studies, trainings and what they logged."""

import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import mlflow
from mlflow.entities import Run, ViewType
from mlflow.exceptions import MlflowException

from pipeline.errors import InputError
from pipeline.tracking.client import connect, experiment_of, open_client
from pipeline.tracking.failures import is_away
from pipeline.tracking.schema import CONFIG_KEY, KIND, PAGE, PARENT, STUDY, STUDY_KEY, TRAINING
from pipeline.tracking.training_run import TrainingRun, series


def find_runs(
    experiment: str, filter_string: str, *, most: int | None = None, client: mlflow.MlflowClient | None = None
) -> list[Run]:
    """Runs of an experiment that are not deleted, newest first, at another server where a client of it is given.

    Raises:
        InputError: MLflow does not understand the filter.
    """
    return list(iterate_runs(experiment, filter_string, most=most, client=client))


def iterate_runs(
    experiment: str, filter_string: str, *, most: int | None = None, client: mlflow.MlflowClient | None = None
) -> Iterator[Run]:
    """The same one after the other: MLflow's runs take ten times the memory of what is made of them."""
    count, token = 0, None
    while not (most and count >= most):
        try:
            page = (client or connect()).search_runs(
                [experiment], filter_string, ViewType.ACTIVE_ONLY, max_results=min(most or PAGE, PAGE), page_token=token
            )
        except MlflowException as error:
            if is_away(error):
                raise
            raise InputError(f'The filter "{filter_string}" cannot be used: {error.message.splitlines()[0]}') from error
        count, token = count + len(page), page.token
        yield from page
        if not token:
            return


def find_study(experiment: str, key: str | None = None) -> Run | None:
    """The newest study, or the newest with this key."""
    return next(iter(find_studies(experiment, key, most=1)), None)


def find_studies(
    experiment: str,
    key: str | None = None,
    *,
    kind: str = STUDY,
    tag: str = STUDY_KEY,
    most: int | None = None,
    client: mlflow.MlflowClient | None = None,
) -> list[Run]:
    """The studies, or the searches, newest first; those with this key, in this tag, where one is given."""
    wanted = f" and tags.{tag} = '{key}'" if key else ""
    return find_runs(experiment, f"tags.{KIND} = '{kind}'{wanted}", most=most, client=client)


def find_trainings(experiment: str, config_key: str, *, parent: str | None = None) -> list[Run]:
    """The trainings of exactly this config, newest first; of one study where `parent` is given."""
    within = f" and tags.`{PARENT}` = '{parent}'" if parent else ""
    return find_runs(experiment, f"tags.{CONFIG_KEY} = '{config_key}'{within}")


def epoch_metrics(run_id: str, *names: str) -> list[tuple[float, ...]]:
    """The values of these metrics, epoch by epoch."""
    histories = [series(run_id, name) for name in names]
    return [tuple(history[step] for history in histories) for step in sorted(histories[0])]


def trainings(
    experiment: str, filter_string: str = "", *, since_ms: int = 0, client: mlflow.MlflowClient | None = None
) -> list[TrainingRun]:
    """The trainings of an experiment, newest first.

    Args:
        since_ms: only those that started then or later.
        client: of the server that is asked, the configured one by default.
    """
    client = client or connect()
    wanted = [f"tags.{KIND} = '{TRAINING}'", *([filter_string] if filter_string else [])]
    if since_ms:
        wanted.append(f"attributes.start_time >= {since_ms}")
    found = iterate_runs(experiment, " and ".join(wanted), client=client)
    return [TrainingRun.of(run, tracking_uri=client.tracking_uri) for run in found]


def training(run_id: str) -> TrainingRun:
    """One training.

    Raises:
        InputError: there is no such run.
    """
    return TrainingRun.of(get_run(run_id), tracking_uri=connect().tracking_uri)


def trainings_of(study_id: str, filter_string: str = "", *, since_ms: int = 0) -> list[TrainingRun]:
    """The trainings of a study, newest first."""
    within = f"tags.`{PARENT}` = '{study_id}'" + (f" and {filter_string}" if filter_string else "")
    return trainings(experiment_of(study_id), within, since_ms=since_ms)


def trainings_elsewhere(place: str, filter_string: str = "", *, since_ms: int = 0) -> list[TrainingRun]:
    """The trainings of another store, newest first.

    Args:
        place: a folder with an mlflow.db, from which nothing outside it is read, or a tracking URI.

    Raises:
        InputError: there is no such store, or no training in it.
        PipelineError: it does not answer.
    """
    folder = Path(place).expanduser()
    database = folder / "mlflow.db"
    remote = "://" in place
    if not remote and not database.is_file():
        raise InputError(f"There is no mlflow.db in '{place}': give a folder that has one, or a tracking URI.")
    with tempfile.TemporaryDirectory() as temporary:
        if not remote:
            # MLflow would bring an older database up to date where it lies.
            shutil.copy(database, temporary)
        client = open_client(place if remote else f"sqlite:///{temporary}/mlflow.db", upgrade=not remote)
        found = [
            training
            for experiment in client.search_experiments()
            for training in trainings(experiment.experiment_id, filter_string, since_ms=since_ms, client=client)
        ]
    if not found:
        raise InputError(f"There is no training of this kind at {place}.")
    if remote:
        name = re.sub(r"^.*://(.*@)?", "", place)
        return [replace(training, store=name) for training in found]
    # Wherever the runs were made, their files are looked for where the folder is now, and nowhere else.
    files = folder.resolve() / "mlruns"

    def moved(uri: str) -> str:
        return str(files.joinpath(*Path(uri).parts[-3:]))

    return [
        replace(training, store=files.parent.name, artifact_uri=moved(training.artifact_uri), only_within=str(files))
        for training in found
    ]


def get_run(run_id: str) -> Run:
    """A run by its id.

    Raises:
        InputError: there is none.
    """
    try:
        return connect().get_run(run_id)
    except MlflowException as error:
        raise InputError(f"There is no run '{run_id}' at {mlflow.get_tracking_uri()}.") from error
