"""Where data, manifests and checkpoints are kept, and how a file appears whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from pipeline.errors import InputError

ROOT_VARIABLE = "DIGIT_COMPARISON_ROOT"


def default_root() -> Path:
    """The folder for everything kept between runs: the environment variable's, or the user's cache folder.

    Not the project's folder: MLflow runs a project from a git address in a temporary one.
    """
    return Path(os.environ.get(ROOT_VARIABLE) or platformdirs.user_cache_dir("digit-comparison")).expanduser()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made with the permissions that any other file of the user gets, which a temporary file of the library's has not.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def process_lock(lock: Path, doing: str) -> Iterator[None]:
    """Keep other processes out of a block; a killed process leaves no lock behind.

    Args:
        lock: the file that is locked, removed afterwards.
        doing: what the other process is then doing: "is being trained".

    Raises:
        InputError: another process is in such a block.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    # Whoever ends what was begun may be another thread.
    held = FileLock(lock, thread_local=False)
    try:
        held.acquire(timeout=0)
    except Timeout as error:
        raise InputError(f"{doing} by another process: wait for it to end.") from error
    try:
        yield
    finally:
        # Before the release: a file removed after it may already be another process's lock.
        lock.unlink(missing_ok=True)
        held.release()
