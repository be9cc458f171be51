"""Names: the one that was meant, and short ones made from content."""

import difflib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any


def short_hash(values: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that depend on the content alone."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """The nearest of the known names as a question, or what to say where none is near."""
    spelled = {one.casefold(): one for one in known}
    near = difflib.get_close_matches(name.casefold(), spelled, n=1, cutoff=0.5)
    return f"did you mean '{spelled[near[0]]}'?" if near else otherwise


def printable(name: str | os.PathLike[str]) -> str:
    r"""A file's name as text that can be written anywhere: bytes that are no UTF-8 become \xe9 and the like."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def natural(text: str) -> list[tuple[int, str]]:
    """A key that sorts names as people do: 2 before 10."""
    parts = re.split(r"([0-9]+)", text)
    return [(int(part or 0), "") if number % 2 else (0, part.casefold()) for number, part in enumerate(parts)]
