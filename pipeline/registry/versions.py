"""Versions of registered models: finding them, their aliases and tags."""

import getpass
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import mlflow
from filelock import FileLock
from mlflow.entities import LoggedModelInput
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from pipeline.data.images import Dataset
from pipeline.errors import InputError
from pipeline.names import short_hash
from pipeline.tracking.client import connect
from pipeline.tracking.schema import DATASET_SHA256, ENSEMBLE, SOURCE

CHAMPION, PREVIOUS = "champion", "previous-champion"
# Of a champion, which versions were tried in its place.
TRIED = "tried"


@dataclass(frozen=True)
class Version:
    """An entry in the registry: its model's name, its number there, the run that made it if any, what it says."""

    name: str
    number: str
    run_id: str
    model_id: str
    description: str
    tags: Mapping[str, str]

    @classmethod
    def of(cls, entry: ModelVersion) -> "Version":
        """From MLflow's, whose number is text or not, as the store has it."""
        # The logged model is named by where it is: models:/m-...
        model_id = entry.model_id or (entry.source or "").removeprefix("models:/")
        description = entry.description or ""
        return cls(entry.name, str(entry.version), entry.run_id or "", model_id, description, entry.tags or {})

    @property
    def uri(self) -> str:
        """Where it is, whatever alias it has."""
        return f"models:/{self.name}/{self.number}"

    def __str__(self) -> str:
        return f"{self.name} version {self.number}"


# --- Writing -------------------------------------------------------------------------------------------------------


def tag(version: Version, prefix: str, tags: Mapping[str, str]) -> None:
    """Give a version tags whose names begin with a prefix, in place of all others that do."""
    for key in connect().get_model_version(version.name, version.number).tags:
        if key.startswith(prefix) and key.removeprefix(prefix) not in tags:
            connect().delete_model_version_tag(version.name, version.number, key)
    for key, value in tags.items():
        connect().set_model_version_tag(version.name, version.number, prefix + key, value)


def link(version: Version, run_id: str) -> None:
    """Record that a run used this version: MLflow's pages then lead from one to the other."""
    connect().log_inputs(run_id, models=[LoggedModelInput(version.model_id)])


@contextmanager
def locked(name: str) -> Iterator[None]:
    """Keep this user's other processes on this machine from changing a model's aliases within the block."""
    key = short_hash({"uri": mlflow.get_registry_uri(), "name": name})
    with FileLock(Path(tempfile.gettempdir(), f"mlflow-{getpass.getuser()}-{key}.lock")):
        yield


def tried_against(champion: Version, candidate: str) -> list[str]:
    """The numbers of the versions that were tried in a champion's place, in turn, this candidate among them."""
    tried = [number for number in champion.tags.get(TRIED, "").split(",") if number]
    return tried if candidate in tried else [*tried, candidate]


def say_tried(champion: Version, tried: Sequence[str]) -> None:
    """Keep which versions were tried in a champion's place, and say how many."""
    connect().set_model_version_tag(champion.name, champion.number, TRIED, ",".join(tried))
    describe(champion.name)


def set_champion(name: str, version: str, *, former: str | None) -> None:
    """Make a version the champion, which the model's description then says, and the former one, if any, the previous
    champion.

    In this order: whoever is cut in between leaves the former champion in its place, though as its own predecessor.
    """
    if former:
        connect().set_registered_model_alias(name, PREVIOUS, former)
    connect().set_registered_model_alias(name, CHAMPION, version)
    describe(name)


def describe(name: str, *, client: mlflow.MlflowClient | None = None) -> None:
    """Say of a registered model as a whole what its name stands for and which version is champion.

    A description that somebody else wrote stays.
    """
    client = client or connect()
    model = client.get_registered_model(name)
    # What stood here before was the champion's card.
    if model.description and not model.description.startswith((f"`{name}`", f"# {name}\n")):
        return
    dataset, _, architecture = name.rpartition("-")
    if number := model.aliases.get(CHAMPION):
        tags = client.get_model_version(name, number).tags
        scored = ""
        if "interval" in tags:
            scored = ", accuracy {accuracy} on {test_images} test images (95 % interval {interval})".format_map(tags)
        tried = len(tags[TRIED].split(",")) if TRIED in tags else 0
        vain = f" Tried in its place: {tried} other version{'s' * (tried > 1)}." if tried else ""
        which = f"Champion: version {number}{scored}. Load it as `models:/{name}@{CHAMPION}`.{vain}"
    else:
        which = f"There is no champion yet: `mlflow run . -e promote -P model={name}` chooses one."
    stands_for = f"the architecture {architecture}, trained on the data set {dataset}. Every version is one training"
    if architecture == ENSEMBLE:
        stands_for = f"the vote of several models, trained on the data set {dataset}. Every version names its members"
    text = f"`{name}` stands for {stands_for}, and its page has its model card.\n\n{which}"
    client.update_registered_model(name, text)


# --- Finding -------------------------------------------------------------------------------------------------------


def version_of(run_id: str, name: str, *, client: mlflow.MlflowClient | None = None) -> Version | None:
    """The version of this name registered from a run, if any; the run's model may have other names, too."""
    found = map(Version.of, (client or connect()).search_model_versions(f"run_id = '{run_id}'"))
    return next((version for version in found if version.name == name), None)


def registered_name(dataset: str, architecture: str) -> str:
    """What the models of an architecture trained on a data set are called."""
    return f"{dataset}-{architecture}"


def check_names(dataset: Dataset, architectures: Sequence[str], client: mlflow.MlflowClient | None) -> None:
    """Refuse to register models of a data set under names that stand for another one of its name.

    It is the same one when its content is, or when it was read from the same place, where it may have grown.

    Args:
        client: None while the server is away, which cannot be asked.

    Raises:
        InputError: which name stands for another data set, and how to give this one a name of its own.
    """
    if client is None:
        return
    for architecture in architectures:
        name = registered_name(dataset.name, architecture)
        known = [entry.tags for entry in client.search_model_versions(f"name = '{name}'") if SOURCE in entry.tags]
        if known and not any(
            tags[DATASET_SHA256] == dataset.sha256 or tags[SOURCE] == dataset.source for tags in known
        ):
            raise InputError(
                f"The registered model {name} stands for another data set called {dataset.name}, read from "
                f"{known[0][SOURCE]}: give this one a name of its own, -P name=NAME, or the same on purpose, "
                f"-P name={dataset.name}."
            )


def names() -> list[str]:
    """All registered models."""
    found, token = [], None
    while token is None or token:
        page = connect().search_registered_models(max_results=100, page_token=token)
        found += [model.name for model in page]
        token = page.token or ""
    return found


def versions(name: str) -> list[Version]:
    """All versions of a registered model."""
    return list(map(Version.of, connect().search_model_versions(f"name = '{name}'")))


def aliased(name: str, alias: str) -> Version | None:
    """The version of a registered model that has this alias."""
    return found_or_none(lambda: connect().get_model_version_by_alias(name, alias))


def champions() -> list[Version]:
    """Every registered model's champion."""
    found = (aliased(name, CHAMPION) for name in names())
    return [version for version in found if version]


def found_or_none(look_up: Callable[[], ModelVersion]) -> Version | None:
    """What a look-up finds; a registry that does not answer is not one that has nothing."""
    try:
        return Version.of(look_up())
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def find(uri: str) -> Version:
    """The version that `models:/NAME@ALIAS`, `models:/NAME/VERSION` or `models:/NAME/latest` means now.

    Raises:
        InputError: there is none; the text says what there is.
    """
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/@]+)|/(\d+|latest))", uri)
    if not match:
        raise InputError(f"'{uri}' names no registered model: write models:/NAME@ALIAS or models:/NAME/VERSION.")
    name, alias, number = match.groups()
    if number == "latest":
        found = max(versions(name), key=lambda version: int(version.number), default=None)
    elif number:
        found = found_or_none(lambda: connect().get_model_version(name, number))
    else:
        found = aliased(name, alias)
    if found:
        return found
    there = names()
    if name not in there:
        known = f"there are {', '.join(there)}." if there else "it has none; is MLFLOW_TRACKING_URI right?"
        raise InputError(f"There is no registered model '{name}' at {mlflow.get_registry_uri()}: {known}")
    aliases = [f"@{alias}" for alias in connect().get_registered_model(name).aliases]
    numbers = sorted(int(version.number) for version in versions(name))
    has = ", ".join([*aliases, f"the versions {numbers[0]} to {numbers[-1]}" if numbers else "no version"])
    hint = f": promote one with `mlflow run . -e promote -P model={name}`" if alias == CHAMPION else ""
    raise InputError(f"There is no {uri}; {name} has {has}{hint}.")
