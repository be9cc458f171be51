"""What a run says, on disk until the tracking server has it: a folder for each run that is not wholly recorded."""

import json
import logging
import secrets
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import InputError, PipelineError, reason
from pipeline.files import process_lock

logger = logging.getLogger(__name__)

FILE = "journal.db"
# Kinds of records that hold points of metrics, and how many of these are sent at once.
OF_POINTS = ("metrics", "system")
MOST_POINTS = 500


@dataclass(frozen=True)
class Record:
    """One thing that a run says.

    Attributes:
        number: its place in the journal.
        kind: what is to be done with it, one of the deliveries of a sender.
        files: the folder that belongs to it, if any.
    """

    number: int
    kind: str
    content: Mapping[str, Any]
    files: Path | None


class Removed(InputError):
    """A journal that another process held, and has removed: the server has all of it, or the run is gone."""


class Journal:
    """The journal of one run, held by this process; several of its threads may use it.

    Its `key`, the folder's name, is a tag of the run too: so the run is found again where an answer of the server was
    lost.

    Args:
        folder: of this journal.
        doing: what other processes are told that is done with it: "This run is being trained".
        new: make it.

    Raises:
        InputError: another process holds it.
        Removed: it is no more.
        sqlite3.DatabaseError: its file is damaged.
    """

    def __init__(self, folder: Path, *, doing: str, new: bool = False) -> None:
        self.folder, self.key = folder, folder.name
        self._lock = process_lock(folder.with_name(f"{self.key}.lock"), doing)
        self._lock.__enter__()
        self._between_threads = threading.RLock()
        # Called when there is something new.
        self.changed: Callable[[], None] = lambda: None
        try:
            if new:
                folder.mkdir(parents=True)
            elif not (folder / FILE).exists():
                raise Removed(f"{doing} no more: another process has just ended that. Run the same command again.")
            self._database = sqlite3.connect(folder / FILE, check_same_thread=False, isolation_level=None)
            # Safe against a killed process; a power cut may cost the last records, not the file.
            self._database.execute("PRAGMA synchronous = NORMAL")
            self._database.execute("CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value TEXT)")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, kind TEXT, content TEXT, files TEXT, "
                "once TEXT UNIQUE, sent INTEGER DEFAULT 0)"
            )
            self.run_id: str | None = self.about.get("run_id")
        except BaseException:
            self._lock.__exit__(None, None, None)
            raise

    @property
    def about(self) -> dict[str, Any]:
        """What is known of the run as a whole."""
        with self._between_threads:
            return {name: json.loads(value) for name, value in self._database.execute("SELECT * FROM about")}

    def note(self, **values: Any) -> None:
        """Keep what is known of the run as a whole, in place of what was known."""
        with self.transaction():
            for name, value in values.items():
                self._database.execute("REPLACE INTO about VALUES (?, ?)", (name, json.dumps(value)))
        self.run_id = values.get("run_id", self.run_id)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is said in the block is kept, or nothing of it."""
        with self._between_threads, self._named():
            outermost = not self._database.in_transaction
            if outermost:
                self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                if outermost:
                    self._database.execute("ROLLBACK")
                raise
            if outermost:
                self._database.execute("COMMIT")
        if outermost:
            self.changed()

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Say of a failure that it is this file's: SQLite names none, and the tracking server's is one, too."""
        try:
            yield
        except sqlite3.Error as error:
            if sentence := reason(error, database=str(self.folder / FILE)):
                raise PipelineError(sentence) from None
            raise

    def say(
        self, kind: str, content: Mapping[str, Any] | None = None, *, files: Path | None = None, once: str | None = None
    ) -> None:
        """Append a record.

        Args:
            content: what JSON can hold.
            files: a folder on the same disk that the journal takes over.
            once: what it is about, where nothing more is to be said of that.
        """
        name = None
        if files:
            name = f"files-{secrets.token_hex(8)}"
            files.replace(self.folder / name)
        with self.transaction():
            text = json.dumps(content or {})
            self._database.execute(
                "INSERT OR IGNORE INTO records (kind, content, files, once) VALUES (?, ?, ?, ?)",
                (kind, text, name, once),
            )

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder to make files in that the journal shall take over."""
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            yield Path(folder)

    def said(self, kind: str) -> list[Record]:
        """All records of a kind, sent or not."""
        return self._records("kind = ? ORDER BY number", kind)

    @property
    def all_sent(self) -> bool:
        """Whether the server has confirmed everything."""
        with self._between_threads:
            return not self._database.execute("SELECT 1 FROM records WHERE sent = 0 LIMIT 1").fetchone()

    def next(self) -> Record | None:
        """What the server has not confirmed and is told next: a record, or points that follow each other as one.

        A slow server is asked once for all of them.
        """
        waiting = self._records(f"sent = 0 ORDER BY number LIMIT {MOST_POINTS}")
        if not waiting or waiting[0].kind not in OF_POINTS:
            return next(iter(waiting), None)
        together, points = waiting[0], list(waiting[0].content["points"])
        for record in waiting[1:]:
            if record.kind not in OF_POINTS or len(points) + len(record.content["points"]) > MOST_POINTS:
                break
            together, points = record, [*points, *record.content["points"]]
        return Record(together.number, waiting[0].kind, {"points": points}, None)

    def confirm(self, record: Record) -> None:
        """The server has it, and what was said before it."""
        with self.transaction():
            self._database.execute("UPDATE records SET sent = 1 WHERE number <= ?", (record.number,))
        if record.files:
            shutil.rmtree(record.files, ignore_errors=True)

    @property
    def ended(self) -> str:
        """The status that the run ended with, empty while it has not."""
        turns = self._records("kind IN ('open', 'end') ORDER BY number DESC LIMIT 1")
        return turns[0].content["status"] if turns and turns[0].kind == "end" else ""

    def close(self) -> None:
        """Let go of it."""
        with self._between_threads:
            self._database.close()
        self._lock.__exit__(None, None, None)

    def remove(self) -> None:
        """Forget the run: all of it is recorded, or it is gone."""
        # Out of sight first: a process that is killed in between leaves no half of a journal.
        shutil.rmtree(self.folder.rename(self.folder.with_name(f".{self.key}.removed")), ignore_errors=True)
        self.close()

    def _records(self, condition: str, *values: str) -> list[Record]:
        with self._between_threads:
            rows = self._database.execute(
                f"SELECT number, kind, content, files FROM records WHERE {condition}", values
            ).fetchall()
        return [
            Record(number, kind, json.loads(content), self.folder / files if files else None)
            for number, kind, content, files in rows
        ]


def journals(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """The folders of all journals below a root, newest first, with what each says of its run."""
    changed: dict[Path, float] = {}
    for path in (root / "journals").glob(f"*/{FILE}"):
        # Whoever has sent one removes it meanwhile.
        with suppress(FileNotFoundError):
            changed[path.parent] = path.parent.stat().st_ctime
    for folder in sorted(changed, key=lambda folder: changed[folder], reverse=True):
        if folder.name.startswith("."):
            continue
        try:
            # Not read-only: what a killed process left half-written is rolled back by whoever opens it next.
            with closing(sqlite3.connect(f"{(folder / FILE).as_uri()}?mode=rw", uri=True)) as database:
                about = dict(database.execute("SELECT name, value FROM about"))
        except sqlite3.OperationalError:
            # Another process is just beginning it, or has just removed it.
            continue
        except sqlite3.DatabaseError as error:
            set_aside(folder, error)
            continue
        if about:
            yield folder, {name: json.loads(value) for name, value in about.items()}


def new_folder(root: Path) -> Path:
    """Where a new journal goes."""
    return root / "journals" / secrets.token_hex(8)


def set_aside(folder: Path, error: Exception) -> None:
    """Keep a damaged journal for whoever wants to look, out of the way."""
    place = folder.rename(folder.with_name(f".{folder.name}.damaged"))
    logger.warning("The journal %s is damaged (%s): set aside as %s.", folder, error, place.name)


def ours(about: Mapping[str, Any], *, uri: str, experiment_id: str | None) -> bool:
    """Whether a journal is of a run on this server and, as far as both are known, in this experiment."""
    known = about.get("experiment_id") or about["experiment"].get("id")
    return about["tracking_uri"] == uri and (not known or not experiment_id or known == experiment_id)
