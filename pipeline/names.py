"""Names: the one that was meant, and short ones made from content."""

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any


def short_hash(values: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that depend on the content alone."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def did_you_mean(name: str, known: Iterable[str], *, otherwise: str) -> str:
    """The nearest of the known names as a question, or what to say where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'?" if near else otherwise
