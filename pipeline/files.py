"""Where data, manifests and checkpoints are kept, and how a file appears whole or not at all."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs

ROOT_VARIABLE = "DIGIT_COMPARISON_ROOT"


def default_root() -> Path:
    """The folder for everything kept between runs: the environment variable's, or the user's cache folder.

    Not the project's folder: MLflow runs a project from a git address in a temporary one.
    """
    return Path(os.environ.get(ROOT_VARIABLE) or platformdirs.user_cache_dir("digit-comparison"))


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
