"""Where data, manifests and checkpoints are kept, and how a file appears whole or not at all."""

import os
import secrets
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from pipeline.errors import InputError, PipelineError, first_line, reason

# The endings, each a format, of what commands write.
TABLES = (".csv", ".md", ".json", ".parquet", ".tex")
ANSWERS = (".csv", ".jsonl", ".parquet")
PAGES = (".html",)
ROOT_VARIABLE = "DIGIT_COMPARISON_ROOT"


def default_root() -> Path:
    """The folder for everything kept between runs: the environment variable's, or the user's cache folder.

    Not the project's folder: MLflow runs a project from a git address in a temporary one.
    """
    return Path(os.environ.get(ROOT_VARIABLE) or platformdirs.user_cache_dir("digit-comparison")).expanduser()


def check_ending(path: Path, known: Sequence[str]) -> None:
    """Refuse an output file of an unknown format.

    Raises:
        InputError: which there are.
    """
    if path.suffix not in known:
        raise InputError(
            f"'{path}' has no ending that says a format: use {'one of ' * (len(known) > 1)}{', '.join(known)}."
        )


def make_folder(folder: Path) -> None:
    """Make a folder and those above it.

    Raises:
        PipelineError: it cannot be made or written to.
    """
    hint = f" Set {ROOT_VARIABLE} to a folder that may be written." if folder.is_relative_to(default_root()) else ""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PipelineError(f"{reason(error) or f'{folder} cannot be made: {error.strerror}.'}{hint}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PipelineError(f"Nothing can be written to {folder}: it is read-only or closed to this user.{hint}")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends without an error."""
    make_folder(path.parent)
    # Made with the permissions that any other file of the user gets, which a temporary file of the library's has not.
    temporary = path.parent / f".{path.name}.{secrets.token_hex(8)}"
    temporary.touch(exist_ok=False)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        # numpy and torch only say that a write failed; one more says why.
        try:
            with temporary.open("ab") as file:
                file.write(bytes(1 << 16))
        except OSError as failed:
            failed.filename = str(path)
            raise failed from error
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """`atomic_write` for a file that the user named.

    Raises:
        InputError: it cannot be written there.
    """
    with ExitStack() as stack:
        try:
            if path.is_dir():
                raise IsADirectoryError("it is a folder")
            temporary = stack.enter_context(atomic_write(path))
        except (OSError, PipelineError) as error:
            raise InputError(f"{path} cannot be written: {first_line(error)}.") from error
        yield temporary


@contextmanager
def process_lock(lock: Path, doing: str) -> Iterator[None]:
    """Keep other processes out of a block; a killed process leaves no lock behind.

    Args:
        lock: the file that is locked, removed afterwards.
        doing: what the other process is then doing: "is being trained".

    Raises:
        InputError: another process is in such a block.
    """
    make_folder(lock.parent)
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
