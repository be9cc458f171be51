"""Names: short ones made from content."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def short_hash(values: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that depend on the content alone."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
