"""A tracking store in a database: whether MLflow can use it, before MLflow tries for minutes or changes it."""

import os
import re
import sqlite3
import tempfile
from contextlib import closing, suppress
from pathlib import Path

import mlflow
import mlflow.db
from sqlalchemy import NullPool, create_engine, make_url
from sqlalchemy.exc import ArgumentError

from pipeline.errors import PipelineError
from pipeline.files import make_folder

MIGRATIONS = Path(mlflow.__file__).parent / "store" / "db_migrations"
# Tables that every version has.
OLDEST = ("experiments", "runs")
# Seconds that a database server has to answer.
ANSWER_S = 10


def check_database(uri: str, *, upgrade: bool) -> None:
    """Find out what is wrong with the database at an address; where there is none, a server is there to ask.

    Args:
        upgrade: whether MLflow may bring an older database up to date.

    Raises:
        PipelineError: it cannot be opened, or is another version's.
        OSError: it may not be read.
        sqlite3.Error: it is no database, damaged or locked.
        SQLAlchemyError: nobody answers, or lets this user in.
    """
    if not (file := sqlite_file(uri)):
        return knock(uri)
    if file.is_dir():
        raise PipelineError(f"The database {file} is a folder: correct $MLFLOW_TRACKING_URI.")
    if not file.exists():
        folder = next(parent for parent in file.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise PipelineError(
                f"The database {file} cannot be made: {folder} is read-only, closed to this user or no folder."
            )
        return
    # SQLite does not say what kept it from opening a file.
    file.open("rb").close()
    found = revision(file)
    if found and not upgrade:
        refuse_other_versions(uri, found)


def make_database(uri: str) -> None:
    """Make an SQLite database where there is none yet, whole or not at all.

    MLflow makes its tables in the file itself, in many steps, and cannot go on where a kill or Ctrl-C cut it.
    """
    file = sqlite_file(uri)
    if not file or file.exists():
        return
    make_folder(file.parent)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        made = Path(folder, file.name)
        mlflow.db.commands.main(["upgrade", f"sqlite:///{made}"], standalone_mode=False)
        # Unless another program, as `mlflow ui`, has begun it meanwhile.
        if not file.exists():
            made.replace(file)


def is_half_made(file: Path) -> bool:
    """Whether MLflow was cut while it made the tables in a database, in which nothing is yet."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(file)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        empty = all(not connection.execute(f"SELECT 1 FROM {name}").fetchone() for name in OLDEST if name in tables)
        return set(OLDEST) <= tables and empty
    return False


def knock(uri: str) -> None:
    """Ask a database server once for a connection, where MLflow would ask ten times before it says anything."""
    if uri.split("://")[0].split("+")[0] not in ("postgresql", "mysql"):
        return
    engine = create_engine(uri, poolclass=NullPool, connect_args={"connect_timeout": ANSWER_S})
    with engine.connect():
        pass


def sqlite_file(uri: str) -> Path | None:
    """The file at an address, None for other stores."""
    try:
        url = make_url(uri)
    except ArgumentError:
        return None
    plain = url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:")
    return Path(str(url.database)) if plain else None


def revision(file: Path) -> str | None:
    """The version of MLflow's tables in a database; None where there are no experiments yet, and nothing to lose."""
    # Not read-only: what a killed process left half written is rolled back first.
    with closing(sqlite3.connect(file, timeout=20)) as connection:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
        if not {"experiments", "alembic_version"} <= tables:
            return None
        if not connection.execute("SELECT 1 FROM experiments").fetchone():
            return None
        (version,) = connection.execute("SELECT version_num FROM alembic_version").fetchone() or (None,)
        return version


def refuse_other_versions(uri: str, found: str) -> None:
    """Refuse tables of another MLflow than the installed one, which would change them without being asked."""
    # Of each migration its own version and the one before, read off its file: alembic runs them all, for half a second.
    text = "".join(file.read_text() for file in MIGRATIONS.glob("versions/*.py"))
    known, followed = (
        re.findall(rf"^{name} = [\"'](\w+)", text, re.MULTILINE) for name in ("revision", "down_revision")
    )
    if found in known and found not in followed:
        return
    if found in known:
        raise PipelineError(
            f"The database {uri} is an earlier MLflow's: keep a copy, then bring it up to date with "
            f"mlflow db upgrade {uri}."
        )
    raise PipelineError(
        f"The database {uri} is a later MLflow's than the installed {mlflow.__version__}: "
        "use that version, or another database."
    )
