"""What the rows of a comparison are called: an architecture's name, and what tells its variants apart."""

import json
from collections.abc import Mapping, Sequence

# These hold arguments, each of which is a difference by itself.
NESTED = ("model_args", "task_args")
# The hash of all params, for variants recorded without any.
RECIPE = "recipe"
# What a reader looks for first; the rest follows in the order in which it was logged.
FIRST = ("weights", "limit", "epochs", "lr")
# Of more differences than these a name would not be read.
MAX_SHOWN = 3


def tell_apart(variants: Sequence[Mapping[str, str]]) -> list[str]:
    """Name variants by what differs among them: `kernel_size=3` and `kernel_size=5`.

    Args:
        variants: the params of each as they were logged.

    Returns:
        a name each. At most MAX_SHOWN differences are named unless it takes more to tell the variants apart; `+2`
        stands for two more.
    """
    flat = [flatten(params) for params in variants]
    names = list(dict.fromkeys(name for values in flat for name in values if name != "seed"))
    differing = sorted((name for name in names if len({values.get(name) for values in flat}) > 1), key=importance)
    needed: list[str] = []
    for name in differing:
        if len(distinct(flat, [*needed, name])) > len(distinct(flat, needed)):
            needed.append(name)
    others = [name for name in differing if name not in needed and not is_hash(name)]
    shown = sorted([*needed, *others[: max(0, MAX_SHOWN - len(needed))]], key=importance)
    more = f" +{len(others) - (len(shown) - len(needed))}" if len(others) > len(shown) - len(needed) else ""
    return [
        " ".join(f"{name}={readable(name, values[name])}" for name in shown if name in values) + more for values in flat
    ]


def flatten(params: Mapping[str, str]) -> dict[str, str]:
    """Params, with each argument of the network and of the task as one of its own, which come first."""
    arguments = {
        name: json.dumps(value) for nest in NESTED for name, value in json.loads(params.get(nest, "{}")).items()
    }
    return {**arguments, **{name: value for name, value in params.items() if name not in NESTED}}


def importance(name: str) -> tuple[bool, bool, int]:
    """Where a difference stands among the others, whose own order holds otherwise: hashes tell people nothing."""
    return is_hash(name), name == RECIPE, FIRST.index(name) if name in FIRST else len(FIRST)


def is_hash(name: str) -> bool:
    """Whether a value stands for content."""
    return name == RECIPE or name.endswith("sha256")


def distinct(flat: Sequence[Mapping[str, str]], names: Sequence[str]) -> set[tuple[str | None, ...]]:
    """What the variants are by these names alone."""
    return {tuple(values.get(name) for name in names) for values in flat}


def readable(name: str, value: str) -> str:
    """A logged value as one would type it, a hash cut to what tells it from others."""
    if is_hash(name):
        return value[:6]
    return value.replace("[", "(").replace("]", ")").replace(" ", "").replace('"', "")
