"""The journal: what was said is there after a kill, in order, whole or not at all."""

import itertools
import math
import sqlite3
import subprocess
import sys
import threading

import pytest
from support import PROJECT

from pipeline.errors import InputError
from pipeline.metrics.epoch import Epoch
from pipeline.tracking import runs
from pipeline.tracking.journal import MOST_POINTS, Journal, Removed, journals
from pipeline.tracking.sender import Sender


@pytest.fixture
def journal(tmp_path):
    """A new journal."""
    return Journal(tmp_path / "journals" / "key", doing="This is being tried", new=True)


def test_what_is_confirmed_is_not_sent_again_and_the_rest_comes_in_order(journal):
    for number in range(3):
        journal.say("params", {"number": number})
    first = journal.next()
    journal.confirm(first)
    assert journal.next().content == {"number": 1} and len(journal.said("params")) == 3


def test_points_that_wait_are_sent_together_and_nothing_overtakes_them(journal):
    for number in range(MOST_POINTS + 1):
        journal.say("system" if number % 2 else "metrics", {"points": [["loss", 0.5, 0, number]]})
    journal.say("params", {})
    journal.say("metrics", {"points": [["loss", 0.5, 0, -1]]})
    steps = []
    while (record := journal.next()).kind != "params":
        steps.append([step for *_, step in record.content["points"]])
        journal.confirm(record)
    assert steps == [list(range(MOST_POINTS)), [MOST_POINTS]]
    journal.confirm(record)
    assert journal.next().content["points"] == [["loss", 0.5, 0, -1]]


def test_all_of_a_transaction_or_nothing(journal, tmp_path):
    with pytest.raises(ZeroDivisionError), journal.transaction():
        journal.say("params", {})
        journal.note(run_id="made up")
        raise ZeroDivisionError
    assert journal.next() is None and "run_id" not in journal.about


def test_files_are_taken_over_and_go_with_their_record(journal):
    with journal.workspace() as folder:
        (folder / "report").mkdir()
        (folder / "report" / "a.txt").write_text("a")
        journal.say("artifacts", files=folder / "report")
    record = journal.next()
    assert (record.files / "a.txt").read_text() == "a"
    journal.confirm(record)
    assert not record.files.exists()


def test_no_number_never_reaches_the_store_and_an_epoch_is_said_once(journal):
    epoch = Epoch(1, {"val/accuracy": 0.5, "val/f1_of_absent": math.nan, "train/loss": math.inf}, 1.0)
    runs.say_epoch(journal, epoch)
    runs.say_epoch(journal, epoch)
    (record,) = journal.said("metrics")
    assert [point[0] for point in record.content["points"]] == ["val/accuracy", "time/epoch_s"]


def test_another_process_is_kept_out_until_the_first_is_gone(journal):
    script = f"""
from pathlib import Path
from pipeline.tracking.journal import Journal
Journal(Path({str(journal.folder)!r}), doing="This is being tried")
"""
    command = [sys.executable, "-c", script]
    refused = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert "This is being tried by another process" in refused.stderr
    journal.close()
    assert subprocess.run(command, cwd=PROJECT, check=False).returncode == 0
    again = Journal(journal.folder, doing="This is being tried again")
    with pytest.raises(InputError, match="is being tried once more by another process"):
        Journal(again.folder, doing="This is being tried once more")


def test_a_process_killed_while_it_writes_leaves_a_journal_that_is_found(journal, tmp_path):
    journal.note(kind="training")
    journal.close()
    script = f"""
import os, signal
from pathlib import Path
from pipeline.tracking.journal import Journal
journal = Journal(Path({str(journal.folder)!r}), doing="This is being tried")
journal._database.execute("PRAGMA cache_size = 1")
with journal.transaction():
    journal.note(kind="half", **{{f"name{{n}}": "x" * 500 for n in range(500)}})
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, check=False)
    assert (journal.folder / "journal.db-journal").exists(), "what SQLite rolls back"
    assert list(journals(tmp_path)) == [(journal.folder, {"kind": "training"})]


def test_journals_are_removed_by_others_while_they_are_looked_through(tmp_path):
    folder = tmp_path / "journals"
    stop = threading.Event()

    def begin_and_remove() -> None:
        for number in itertools.count():
            made = Journal(folder / f"{number}", doing="This is being tried", new=True)
            made.note(kind="training")
            made.remove()
            if stop.is_set():
                return

    other = threading.Thread(target=begin_and_remove)
    other.start()
    removed = 0
    try:
        while removed < 3:
            for found, _ in journals(tmp_path):
                try:
                    Journal(found, doing="This is being tried").close()
                except Removed:
                    removed += 1
                except InputError as error:
                    assert "by another process" in str(error)
    finally:
        stop.set()
        other.join()
    assert [path.name for path in folder.iterdir()] == [], "nothing is made anew of what was removed"


def test_a_damaged_journal_is_set_aside(journal, tmp_path, caplog):
    journal.note(kind="training")
    journal.close()
    (journal.folder / "journal.db").write_bytes(b"no database, but as long as one" * 100)
    assert list(journals(tmp_path)) == [] and "is damaged" in caplog.text
    assert [path.name for path in (tmp_path / "journals").iterdir()] == [".key.damaged"]


def test_what_another_process_wrote_at_the_same_moment_is_written_again(journal, environment):
    journal.note(tracking_uri=f"sqlite:///{environment}/mlflow.db")
    journal.say("params")
    table = sqlite3.connect(":memory:", check_same_thread=False)
    table.execute("CREATE TABLE tags (name TEXT PRIMARY KEY)")
    tries = []

    def write(client, journal, record):
        # As MLflow does it: it looks, another writes, it writes.
        tries.append(list(table.execute("SELECT * FROM tags")))
        if not tries[-1]:
            table.execute("INSERT INTO tags VALUES ('kind')")
            table.execute("INSERT INTO tags VALUES ('kind')")

    with Sender({"params": write}) as sender:
        sender.add(journal)
        assert sender.finish(60)
    assert len(tries) == 2
