"""Tuned recipes: what a search wrote, read back for trainings."""

import json
import tempfile
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
from mlflow.exceptions import MlflowException

import models
from pipeline import arguments
from pipeline.data.images import Dataset
from pipeline.errors import InputError, first_line
from pipeline.tracking import queries, schema
from pipeline.tracking.client import current_experiment

# Stands for the newest recipe of each architecture.
NEWEST = "tuned"
# What a file may at most have: a recipe has two thousand.
MOST_BYTES = 1_000_000
# What is said of the search in the runs of trainings: numbers, and numbers by name.
SPENT = ("trials", "images_seen", "validation_looked_at", "own_accuracy", "val_accuracy")
CURVES = ("expected_accuracy", "importance")
MOST_NUMBERS = 60


@dataclass(frozen=True)
class TunedRecipe:
    """What of an architecture's recipe a search has chosen.

    Attributes:
        source: the address or the file that it comes from.
        overrides: fields of the recipe.
        weights: where its trainings started from.
        spent: on the search, and what it brought, for whoever compares.
    """

    source: str
    architecture: str
    overrides: Mapping[str, Any]
    model_args: Mapping[str, Any]
    task_args: Mapping[str, Any]
    weights: str
    spent: Mapping[str, Any]

    @property
    def tuning(self) -> str:
        """What a training's run says of it, as JSON."""
        return json.dumps({"source": self.source, **self.spent})

    def under(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of `config.resolve` with this recipe's values where the user set none."""
        return {
            **options,
            "overrides": {**self.overrides, **options["overrides"]},
            "model_args": {**self.model_args, **options.get("model_args", {})},
            "task_args": {**self.task_args, **options.get("task_args", {})},
        }


def find(sources: str, weights: Mapping[str, str], dataset: Dataset) -> dict[str, TunedRecipe]:
    """Recipes by architecture.

    Args:
        sources: files or addresses as `load` takes them, separated by commas; `tuned` for the newest of each
            architecture on this data; empty for none.
        weights: by architecture where it starts from.

    Raises:
        InputError: one is not there, is no recipe, belongs to none of the architectures or to another start.
    """
    found = {name: newest(name, dataset) for name in weights} if sources == NEWEST else listed(sources, weights)
    for name, recipe in found.items():
        if (recipe.weights == "none") != (weights[name] == "none"):
            raise InputError(
                f"The recipe {recipe.source} was found with weights={recipe.weights}, and {name} would start with "
                f"weights={weights[name]}: give weights={recipe.weights}, or another recipe."
            )
    return found


def listed(sources: str, architectures: Collection[str]) -> dict[str, TunedRecipe]:
    """The recipes that are named, by architecture.

    Raises:
        InputError: as `find`.
    """
    found: dict[str, TunedRecipe] = {}
    for source in filter(None, (part.strip() for part in sources.split(","))):
        recipe = load(source)
        if recipe.architecture not in architectures:
            raise InputError(
                f"The recipe {source} is for {recipe.architecture}, which is not trained here: leave it out, or add it."
            )
        if other := found.get(recipe.architecture):
            raise InputError(f"{other.source} and {source} are both recipes for {recipe.architecture}: leave one out.")
        found[recipe.architecture] = recipe
    return found


def load(source: str) -> TunedRecipe:
    """Read `recipe.json` of a search's run, `runs:/ID/recipe.json`, or a file.

    Raises:
        InputError: there is none, or it is no recipe of an architecture that there is here.
    """
    if not source.startswith("runs:/"):
        return parse(source, read(Path(source).expanduser(), source))
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(mlflow.artifacts.download_artifacts(source, dst_path=folder))
        except (MlflowException, OSError) as error:
            raise InputError(f"There is no recipe at {source}: {first_line(error)}.") from error
        return parse(source, read(path, source))


def newest(architecture: str, dataset: Dataset) -> TunedRecipe:
    """The recipe of the newest finished search for an architecture on this data.

    Raises:
        InputError: there is none.
    """
    wanted = {
        f"tags.{schema.KIND}": schema.SEARCH,
        f"tags.{schema.ARCHITECTURE}": architecture,
        f"tags.{schema.DATASET_SHA256}": dataset.sha256,
        "attributes.status": "FINISHED",
    }
    conditions = " and ".join(f"{name} = '{value}'" for name, value in wanted.items())
    found = queries.find_runs(current_experiment(), conditions, most=1)
    if not found:
        raise InputError(
            f"There is no finished search for {architecture} on {dataset.name}: run -e tune -P model={architecture} -P "
            f"dataset={dataset.source} first, or leave recipes out."
        )
    return load(f"runs:/{found[0].info.run_id}/{schema.TUNED_RECIPE}")


def read(path: Path, source: str) -> bytes:
    """A file's content.

    Raises:
        InputError: there is none, or far more than a recipe has.
    """
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise InputError(f"The recipe {source} cannot be read: {error.strerror}.") from error
    if len(content) > MOST_BYTES:
        raise InputError(f"{source} is no recipe: it has more than {MOST_BYTES:,} bytes.")
    return content


def parse(source: str, content: bytes) -> TunedRecipe:
    """The recipe that a file holds.

    Raises:
        InputError: what is wrong with it.
    """
    try:
        # What JSON calls NaN or Infinity is no value of a recipe.
        about = json.loads(content, parse_constant=int)
        recipe = dict(about["recipe"])
        architecture = about["architecture"]
        model_args, task_args = (dict(recipe.pop(group, {})) for group in ("model_args", "task_args"))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        why = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise InputError(f"{source} is no recipe that `tune` wrote: {why}.") from error
    if architecture not in models.names():
        raise InputError(f"{source} is a recipe for '{architecture}', which is no architecture here.")
    arguments.check(f"The recipe {source}", asdict(models.get(architecture).recipe), recipe)
    arguments.check(architecture, models.get(architecture).arguments, model_args)
    try:
        models.check_choices(f"The recipe {source}", recipe)
    except models.InvalidArchitecture as error:
        raise InputError(str(error)) from error
    spent = {"trials": 0, "images_seen": 0}
    spent |= {name: about[name] for name in SPENT if isinstance(about.get(name), int | float)}
    spent |= {name: about[name] for name in CURVES if is_numbers(about.get(name))}
    return TunedRecipe(source, architecture, recipe, model_args, task_args, str(about.get("weights", "none")), spent)


def is_numbers(value: Any) -> bool:
    """Whether it is a mapping to numbers, and no longer than a tag may be."""
    if not isinstance(value, dict) or len(value) > MOST_NUMBERS:
        return False
    return all(len(name) < MOST_NUMBERS and isinstance(number, int | float) for name, number in value.items())
