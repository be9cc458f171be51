"""Arguments of an architecture and its task: read as they were typed, checked before anything heavy is imported."""

import ast
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

import models
from pipeline.errors import InputError
from pipeline.names import did_you_mean

# A file a task, in which its class is called as it is, with a capital.
TASKS = Path(__file__).with_name("evaluation")


def parse(text: str, *, option: str) -> dict[str, Any]:
    """Read `kernel_size=5,channels=(16,32)`: names with Python literals; a bare word is text.

    Raises:
        InputError: the text has another form.
    """
    try:
        call = ast.parse(f"dict({text})", mode="eval").body
        if not isinstance(call, ast.Call) or call.args or not isinstance(call.func, ast.Name):
            raise ValueError("it is no list of names with values")
        if None in [keyword.arg for keyword in call.keywords]:
            raise ValueError("a name is missing")
        return {
            str(keyword.arg): keyword.value.id
            if isinstance(keyword.value, ast.Name)
            else ast.literal_eval(keyword.value)
            for keyword in call.keywords
        }
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{option} '{text}' cannot be read: write it as kernel_size=5,dropout=0.3.") from error


def check(owner: str, known: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuse arguments that there are not, or of another type than their defaults.

    Args:
        owner: of the arguments, for people.
        known: its arguments with their defaults; None fits any type.

    Raises:
        InputError: the text suggests the nearest name, or says which type.
    """
    for name, value in given.items():
        if name in models.SUPPLIED:
            raise InputError(f"{name} is no model argument: the data or an option of its own sets it.")
        if name not in known:
            hint = did_you_mean(name, known, otherwise=f"there are {', '.join(known)}.")
            raise InputError(f"{owner} has no argument '{name}': {hint}")
        default = known[name]
        fits = isinstance(value, (int, float)) if isinstance(default, float) else isinstance(value, type(default))
        if default is not None and (not fits or isinstance(value, bool) is not isinstance(default, bool)):
            raise InputError(
                f"{owner}'s argument {name} is of type {type(default).__name__} (default {default!r}), not {value!r}."
            )


# --- From source that is read and not run: importing torch to answer a slip of the pen would take seconds -----------


def check_early(model: str, model_args: Mapping[str, Any], task_args: Mapping[str, Any]) -> None:
    """Check what the files of an architecture and its task show plainly; the rest is found when they are imported.

    Raises:
        InputError: as `check`.
    """
    found = definitions(model)
    task = constant(found.get("TASK"))
    for owner, signature, given in (
        (model, read_signature(found, "build"), model_args),
        (task, read_signature(defined(TASKS / f"{task}.py"), str(task).capitalize()), task_args),
    ):
        if signature:
            check(owner, signature, given)


def has_published_weights(model: str) -> bool:
    """Whether there are published weights of an architecture, if only with some of its arguments."""
    return "WEIGHTS" in definitions(model)


def definitions(model: str) -> dict[str, ast.AST]:
    """What the file of an architecture defines."""
    return defined(Path(models.__file__).with_name(f"{model}.py"))


def defined(file: Path) -> dict[str, ast.AST]:
    """What a file defines, by name: classes, functions, values; nothing where there is no file."""
    if not file.is_file():
        return {}
    found: dict[str, ast.AST] = {}
    for node in ast.parse(file.read_text(encoding="utf-8"), str(file)).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            found[node.name] = node
        elif isinstance(node, ast.Assign):
            found |= {target.id: node.value for target in node.targets if isinstance(target, ast.Name)}
    return found


def read_signature(found: Mapping[str, ast.AST], name: str) -> dict[str, Any] | None:
    """A user's arguments of a class or function with their defaults; None where it is not plainly written."""
    node = found.get(name)
    if isinstance(node, ast.Name):
        node = found.get(node.id)
    if isinstance(node, ast.ClassDef):
        node = next((part for part in node.body if isinstance(part, ast.FunctionDef) and part.name == "__init__"), None)
    if not isinstance(node, ast.FunctionDef) or node.decorator_list or node.args.kwarg:
        return None
    taken = [*node.args.args, *node.args.kwonlyargs]
    # The first ones may have none.
    defaults = [*reversed(node.args.kw_defaults), *reversed(node.args.defaults)]
    known = {part.arg: constant(default) for part, default in zip_longest(reversed(taken), defaults)}
    supplied = ("self", "classes", *models.SUPPLIED)
    return {name: known[name] for name in reversed(known) if name not in supplied}


def constant(node: ast.AST | None) -> Any:
    """The value that stands in the source, None where only running it would tell."""
    try:
        return ast.literal_eval(node) if isinstance(node, ast.expr) else None
    except ValueError:
        return None
