"""Errors made for people: one sentence that says what is wrong and what to do, and the exit code that goes with it."""

import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

WITHOUT_NETWORK = (
    "without network use -P dataset=digits or -P dataset=FOLDER with IDX files, "
    "and -P weights=none or -P weights=FILE with weights on disk"
)


def first_line(error: BaseException) -> str:
    """What a library's error says, without its details and its full stop."""
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".:")


def causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from or while handling, and so on to the first of them."""
    current: BaseException | None = error
    while current is not None:
        yield current
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)


# What libraries say that raise no OSError, or one without a number, where a write fails for want of space.
FULL = re.compile(r"No space left on device|Disk quota exceeded|disk is full|\d+ requested and \d+ written")
NO_MEMORY = re.compile(r"can't allocate memory|not enough memory|out of memory|Cannot allocate memory", re.IGNORECASE)
# SQLite names no file.
DATABASE = {
    "attempt to write a readonly database": "cannot be written: it or its folder is read-only for this user",
    "unable to open database file": "cannot be opened: its folder is missing or closed to this user",
    "disk I/O error": "cannot be read or written: its disk reports an error",
    "file is not a database": "is no database: name another or move it away",
    "database disk image is malformed": "is damaged: put a copy back in its place",
    "database is locked": "is in use by another process: try again when that has ended",
}


def reason(error: BaseException, *, database: str = "") -> str | None:
    """The place that failed or what was lacking or deleted, as a sentence, for an error of any library; else None.

    Args:
        database: the one that was used, the tracking store's by default.
    """
    # A database's own error first: the libraries around it repeat its words without saying what is full.
    found = sorted(causes(error), key=lambda cause: type(cause).__module__ != "sqlite3")
    return next(filter(None, (_reason(cause, database) for cause in found)), None)


def why_failed(error: Exception) -> str:
    """What to say of one of many trainings that failed: the others go on."""
    return str(error) if isinstance(error, PipelineError) else reason(error) or repr(error)


def _reason(error: BaseException, database: str) -> str | None:
    text = str(error)
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.EMFILE, errno.ENFILE):
        return "Too many files are open: raise the limit, as with ulimit -n 4096."
    if isinstance(error, MemoryError) or number == errno.ENOMEM or NO_MEMORY.search(text):
        device = "The GPU" if re.search("CUDA|HIP", text) else "This machine"
        return f"{device} has not enough memory for this: try a smaller batch_size."
    if type(error).__module__ == "sqlite3":
        for says, what in {"database or disk is full": "has no space left on its disk: free some", **DATABASE}.items():
            if says in text:
                return f"The database {database or _store()} {what}."
    if deleted := re.search(r"The (run|experiment) (\w+) must be in the 'active' state", text):
        what, key = deleted.groups()
        return f"The {what} with the id {key} is deleted: bring it back with mlflow {what}s restore --{what}-id {key}."
    if "No usable temporary directory" in text:
        return "Nothing can be written to the folder for temporary files: free space there, or set TMPDIR to another."
    # A copy that fails names its source first.
    place = isinstance(error, OSError) and (error.filename2 or error.filename)
    if number in (errno.ENOSPC, errno.EDQUOT) or FULL.search(text):
        copied = re.search(r"-> '([^']+)'", text)
        return f"There is no space left on the disk of {place or (copied and copied[1]) or _full_folder()}: free some."
    if place and number == errno.EROFS:
        return f"{place} cannot be written: its disk is read-only."
    if place and number in (errno.EACCES, errno.EPERM):
        return f"{place} is closed to this user: permission denied."
    return None


def has_no_room(error: BaseException) -> bool:
    """Whether a disk is full or cannot be written: whatever comes next would fail of it as well."""
    numbers = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
    return any(isinstance(cause, OSError) and cause.errno in numbers for cause in causes(error))


def _store() -> str:
    """Where the tracking server's database is; mlflow is loaded where one was used."""
    mlflow = sys.modules.get("mlflow")
    return str(mlflow.get_tracking_uri()).removeprefix("sqlite:///") if mlflow else "of the tracking server"


def _full_folder() -> str:
    """The folder of those always written to whose disk is full, where the error names none."""
    folders = [os.environ.get("TMPDIR", "/tmp"), str(Path.cwd())]
    full = [folder for folder in folders if Path(folder).is_dir() and os.statvfs(folder).f_bavail < 256]
    return " or ".join(full or folders)


class PipelineError(Exception):
    """Something failed that is no programming error; its text is all the user sees."""

    exit_code = 1


class InputError(PipelineError):
    """Wrong usage or bad input."""

    exit_code = 2


class Unreachable(InputError):
    """Something that is not on this machine could not be fetched; which it is, and why not, is what it is made of."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what} could not be downloaded ({why}): {WITHOUT_NETWORK}.")
        self.what, self.why = what, why


class Refusal(PipelineError):
    """What could be done and should not be, as a promotion without evidence."""

    exit_code = 3


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM. No `Exception`, so that nothing that recovers from failures swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
