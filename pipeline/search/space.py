"""What a search tries: the values of an architecture's SEARCH around one config, and configs made of them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)

import models
from pipeline.config import TrainConfig
from pipeline.errors import InputError
from pipeline.names import short_hash

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Space:
    """A config and what may change in it.

    Attributes:
        base: the config that the recipe and the user's options give; every trial has its epochs and its images.
        distributions: by field, as SEARCH names it, what is tried.
        fixed: fields of the recipe that the user set.
    """

    base: TrainConfig
    distributions: Mapping[str, BaseDistribution]
    fixed: Values

    @property
    def own(self) -> dict[str, Any]:
        """The recipe's own values, which are tried first."""
        architecture = models.get(self.base.model)
        return {field: architecture.own_value(field, self.base) for field in self.distributions}

    @property
    def key(self) -> str:
        """Short hash that two searches share only when they try the same."""
        tried = {field: distribution_to_json(values) for field, values in self.distributions.items()}
        return short_hash({"config": self.base.key, **tried})

    def config(self, values: Values, *, seed: int | None = None, fold: str = "") -> TrainConfig:
        """The config with these values."""
        recipe = self.nested(values)
        for group in ("model_args", "task_args"):
            recipe[group] = {**getattr(self.base, group), **recipe.get(group, {})}
        return replace(self.base, **recipe, seed=self.base.seed if seed is None else seed, fold=fold)

    def recipe(self, values: Values) -> dict[str, Any]:
        """What of a recipe these values decide together with the user's, the number of epochs included."""
        return {"epochs": self.base.epochs, **self.fixed, **self.nested(values)}

    def nested(self, values: Values) -> dict[str, Any]:
        """Values such as `model_args.dropout` as a recipe has them; an argument's default is left where it is.

        Saying it would make another config of the same training.
        """
        recipe: dict[str, Any] = {}
        for field, value in values.items():
            group, _, name = field.rpartition(".")
            if not group:
                recipe[field] = value
            elif name in getattr(self.base, group) or value != self.own[field]:
                recipe.setdefault(group, {})[name] = value
        return recipe


def space_of(base: TrainConfig, *, fixed: Values) -> Space:
    """What is tried of an architecture; what the user has set is not.

    Raises:
        InputError: nothing is left to try.
    """
    architecture = models.get(base.model)
    # Frozen features are computed once.
    still: Collection[str] = [*fixed, *(["augment"] if base.freeze == "features" else [])]
    found = {
        field: distribution(values, architecture.own_value(field, base))
        for field, values in architecture.search.items()
        if field not in still and architecture.own_value(field, base) is not None
    }
    if not architecture.search:
        raise InputError(
            f"models/{base.model}.py has no SEARCH, which says what is tried: add one such as "
            f'SEARCH = {{"lr": {{"low": {base.lr / 10:g}, "high": {base.lr * 10:g}, "log": True}}}}.'
        )
    if not found:
        raise InputError(f"All that SEARCH in models/{base.model}.py names is set by options: leave one of them out.")
    return Space(base, found, dict(fixed))


def distribution(values: Mapping[str, Any], own: Any) -> BaseDistribution:
    """What SEARCH says of a field, as Optuna has it; whole numbers where both ends and the recipe's own value are."""
    if "choices" in values:
        return CategoricalDistribution(values["choices"])
    low, high, log = values["low"], values["high"], values.get("log", False)
    whole = all(isinstance(number, int) for number in (low, high, own))
    return IntDistribution(low, high, log) if whole else FloatDistribution(low, high, log)


def in_words(values: Values) -> str:
    """Values as one reads them: `lr=0.0012 augment=shift dropout=0.2`."""
    texts = {field: f"{value:.3g}" if isinstance(value, float) else str(value) for field, value in values.items()}
    return " ".join(f"{field.rpartition('.')[2]}={text}" for field, text in texts.items())
