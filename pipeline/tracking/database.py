"""MLflow's own database, a SQLite file: it appears whole, is checked when a process opens it, and is made anew if half made.

MLflow creates its tables in some fifty migrations that commit one by one. A process that is killed between them leaves a
database that MLflow refuses from then on, so here they run on a file aside. The journals fill a new database.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
import re
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from pipeline.atomic import replacing
from pipeline.errors import PipelineError, hint, printable

DEFAULT_ARTIFACTS = "./mlruns"  # MLflow's own
STILL_S = 10.0  # after this time without a write, nobody is at work on a half-made database
CHECKED_BYTES = 256 << 20  # a larger database is not read through, which takes about a second per 256 MB
READ_BYTES = 32 << 20  # of a larger one the values are not read, which takes about a second
_SIDES = ("-journal", "-wal", "-shm")
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_ADDRESSES = (  # columns of artifacts' addresses
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
_checked: set[tuple[Path, int]] = set()  # databases that this process has checked, with their inodes


def file_of(uri: str) -> Path | None:
    """The file of a SQLite URI; None for any other URI."""
    name = uri.removeprefix("sqlite:///")
    return Path(name) if name not in (uri, "", ":memory:") and "?" not in name else None


def made_at(path: Path) -> int:
    """When MLflow completed the database, in milliseconds: what tells it from another one at its place. 0 before that."""
    try:
        with closing(_connect(path)) as database:
            row = database.execute("select creation_time from experiments where experiment_id = 0").fetchone()
    except sqlite3.Error:
        return 0
    return int(row[0] or 0) if row else 0


def make_ready(path: Path, artifacts: str) -> None:
    """Makes the database if there is none or a half-made one, which is set aside.

    MLflow keeps absolute addresses of artifacts. In a database that was moved or copied they become those of `artifacts`.

    Args:
        artifacts: folder of all artifacts, as a URI; "" leaves that to MLflow, and the addresses as they are.
    Raises:
        PipelineError: a damaged database.
    """
    if not _is_whole(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with _lock(path):
            _wait_for_others(path)
            if not _is_whole(path):
                _set_aside(path)
                _make(path, artifacts or DEFAULT_ARTIFACTS)
    status = path.stat()
    if (path, status.st_ino) in _checked:
        return
    _check(path, status.st_size)
    _clear_journal(path)
    if artifacts:
        _move_artifacts(path, artifacts)
    _checked.add((path, status.st_ino))


def _is_whole(path: Path) -> bool:
    """Whether MLflow has completed the database, or completes it itself, as it does with one that holds tables of others.

    MLflow adds its first experiment when all migrations have run: a database of any version that was ever in use has one.
    """
    try:
        if not path.stat().st_size:
            return False
        with closing(_connect(path)) as database:
            tables = _tables(database)
            if "experiments" in tables and database.execute("select 1 from experiments").fetchone():
                return True
    except FileNotFoundError:
        return False
    except sqlite3.DatabaseError as error:
        raise _sentence(path, error) from None
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _all_tables_exist  # noqa: F401 (its module registers all tables)

    return len(tables & {"alembic_version", *Base.metadata.tables}) <= len(tables) / 2 and bool(tables)


def _tables(database: sqlite3.Connection) -> set[str]:
    return {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}


def _connect(path: Path) -> sqlite3.Connection:
    """For reading; a transaction that a killed process left is rolled back, which needs a writable file."""
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=20)


def _clear_journal(path: Path) -> None:
    """Lets SQLite remove the journal of a process that was killed before it changed anything; only a write does so."""
    if not path.with_name(f"{path.name}-journal").exists():
        return
    # It cannot where a writer is at work, or in a read-only file.
    with suppress(sqlite3.OperationalError), closing(_connect(path)) as database:
        (version,) = database.execute("pragma user_version").fetchone()
        database.execute(f"pragma user_version = {version}")


def _check(path: Path, size: int) -> None:
    """Reads the database through, once a process: damage shows here, not in the middle of a stage."""
    try:
        with closing(_connect(path)) as database:
            # integrity_check, unlike quick_check, also compares indices with their tables.
            small = size <= CHECKED_BYTES
            answers = [row[0] for row in database.execute("pragma integrity_check(1)")] if small else ["ok"]
            tables = _tables(database)
            for table in tables if size <= READ_BYTES else ():
                for _ in database.execute(f'select * from "{table}"'):
                    pass  # a text that is not UTF-8 is damage that SQLite itself does not look for
            own = "alembic_version" in tables
            version = [row[0] for row in database.execute("select version_num from alembic_version")] if own else []
    except sqlite3.DatabaseError as error:
        raise _sentence(path, error) from None
    if answers != ["ok"]:
        raise _sentence(path, sqlite3.DatabaseError(*answers))
    if version:
        _check_schema(path, tables, version)


def _move_artifacts(path: Path, artifacts: str) -> None:
    """Replaces the folder that the artifacts had when the database was made, which the experiment "Default" tells."""
    with closing(_connect(path)) as database:
        if "experiments" not in _tables(database):  # of others
            return
        row = database.execute("select artifact_location from experiments where experiment_id = 0").fetchone()
        if not row or (old := _folder_of(row[0])) in (None, _folder_of(f"{artifacts}/0")):
            return
        with database:  # one transaction
            for table, column in _ADDRESSES:
                for prefix in (f"{old}/", f"{old.as_uri()}/"):
                    database.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) where substr({column}, 1, ?) = ?",
                        (f"{artifacts}/", len(prefix) + 1, len(prefix), prefix),
                    )


def _folder_of(default: str | None) -> Path | None:
    """The folder of all artifacts, from the address of those of "Default"; None where that is no folder."""
    parts = urlsplit(default or "")
    path = url2pathname(parts.path) if parts.scheme == "file" else default or ""
    return Path(path).parent if re.fullmatch("/.*/0", path) else None


def _check_schema(path: Path, tables: set[str], version: list[str]) -> None:
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.db.utils import _get_latest_schema_revision

    if version != [_get_latest_schema_revision()]:
        raise PipelineError(
            f"another version of MLflow made the database {path}; bring it up to date (mlflow db upgrade sqlite:///{path}), "
            "or, if a newer one made it, name another folder in paths.mlruns (PIPELINE_MLRUNS)"
        )
    if lost := sorted(set(Base.metadata.tables) - tables):
        raise _sentence(path, sqlite3.DatabaseError(f"it lacks the tables {', '.join(lost)}"))


def _sentence(path: Path, error: sqlite3.Error) -> Exception:
    if getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _DAMAGED:
        return error
    return PipelineError(f"MLflow's database {path} is damaged ({printable(error)}); {remedy(path)}")


def remedy(path: Path) -> str:
    """What to do about a damaged database."""
    return f"move it away (mv {path} {path}.damaged) and run {hint('sync')}: it makes a new one and fills it from the journals"


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.with_name(f"{path.name}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:  # SQLite needs locks, too
            error.filename = lock.name
            if error.errno in (errno.ENOSYS, errno.EOPNOTSUPP):
                error.errno, error.strerror = errno.ENOLCK, os.strerror(errno.ENOLCK)
            raise
        yield


def _wait_for_others(path: Path) -> None:
    """Waits while another tool, such as `mlflow server`, is at work on a database that is not whole yet."""
    while not _is_whole(path):
        files = [file for file in (path, *map(path.with_name, _side_names(path))) if file.exists()]
        idle_s = time.time() - max((file.stat().st_mtime for file in files), default=0.0)
        if not 0 <= idle_s < STILL_S:
            return
        time.sleep(0.1)


def _side_names(path: Path) -> list[str]:
    return [path.name + side for side in _SIDES]


def _set_aside(path: Path) -> None:
    """Renames a half-made database, and removes what would harm or outlive the new one.

    SQLite would play a journal beside it into the new one. Files of makers that were killed have no owner under the lock.
    """
    if path.exists() and path.stat().st_size:
        names = (path.with_name(f"{path.name}.half-made{number or ''}") for number in itertools.count())
        aside = next(name for name in names if not name.exists())
        os.replace(path, aside)
        print(f"MLflow's database {path} was half made; it is now {aside.name}, and a new one is made", file=sys.stderr)
    for file in (*map(path.with_name, _side_names(path)), *path.parent.glob(f".{path.name}.*.part")):
        file.unlink(missing_ok=True)


def _make(path: Path, artifacts: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    with replacing(path) as part:

        def without_journal(connection: Any, _: Any) -> None:
            """A file that a crash discards needs no journal; without one it takes a tenth of the time."""
            if connection.execute("pragma database_list").fetchone()[2] == str(part.resolve()):
                connection.executescript("pragma journal_mode = off; pragma synchronous = off")

        event.listen(Engine, "connect", without_journal)
        try:
            SqlAlchemyStore(f"sqlite:///{part}", artifacts)._dispose_engine()
        finally:
            event.remove(Engine, "connect", without_journal)
            SqlAlchemyStore._engine_map.pop(f"sqlite:///{part}", None)
