"""MLflow's SQLite database: made whole, made anew where it was half made, damage told in a sentence."""

from __future__ import annotations

import errno
import os
import random
import signal
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from processes import Command, until

from pipeline.border import MACHINE, system_error
from pipeline.errors import PipelineError
from pipeline.tracking import database
from pipeline.tracking.journal import Journal
from pipeline.tracking.location import _OF_THE_DISK, KEY_TAG, Location, client, locate
from pipeline.tracking.shipper import run_id, ship
from pipeline.tracking.sync import sync

LONG_AGO = 1_000_000_000


def file_of(location: Location) -> Path:
    path = database.file_of(location.uri)
    assert path is not None
    return path


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()
    os.utime(path, (LONG_AGO, LONG_AGO))


def tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")]


def as_if_half_made(path: Path, seed: int = 0) -> None:
    """MLflow's migrations, cut short: an earlier version, and tables that are not there yet."""
    draw = random.Random(seed)
    names = [name for name in tables(path) if name != "alembic_version"]
    lost = draw.sample(names, draw.randrange(1, len(names)))
    drops = [f'drop table "{name}"' for name in lost]
    empty = [] if "experiments" in lost else ["delete from experiments"]
    execute(
        path, "pragma foreign_keys = off", *empty, *drops, "update alembic_version set version_num = 'bf29a5ff90ea'"
    )


def journal(folder: Path, key: str = "k") -> None:
    written = Journal(folder)
    written.begin(f"run-{key}", "digits", {"lr": 0.1}, {KEY_TAG: key})
    written.metrics(1, {"train/loss": 0.5})
    written.end("FINISHED")


def names(location: Location) -> list[str]:
    mlflow = client(location)
    entry = mlflow.get_experiment_by_name("digits")
    return [run.info.run_name for run in mlflow.search_runs([entry.experiment_id])] if entry else []


def test_a_database_appears_whole_and_once_for_all_who_start_together(tmp_path: Path) -> None:
    location = locate("", tmp_path / "mlruns")
    path = file_of(location)
    path.with_name(
        f".mlflow.db.host.{os.getpid()}.0000.part"
    ).touch()  # of a maker that was killed and not yet collected
    with ThreadPoolExecutor(3) as pool:
        found = set(pool.map(lambda _: client(location).get_experiment("0").creation_time, range(3)))
    assert found == {database.made_at(path)}
    assert sorted(path.name for path in (tmp_path / "mlruns").iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_named_since_sqlite_needs_them(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(database.fcntl, "flock", refuse)
    with pytest.raises(OSError, match=r"mlflow\.db\.lock") as refused:
        database.make_ready(tmp_path / "mlflow.db", "")
    sentence, status = system_error(refused.value) or ("", 0)
    assert sentence.startswith(f"the file system of {tmp_path}/mlflow.db.lock takes no locks; ") and status == MACHINE
    assert _OF_THE_DISK.search(str(refused.value))  # so that no stage takes it for a server that does not answer


def make(folder: str) -> None:
    """Target of a process that may be killed at any time."""
    client(locate("", folder))


def test_a_process_killed_while_it_makes_the_database_leaves_none(tmp_path: Path) -> None:
    folder = tmp_path / "mlruns"
    command = Command(tmp_path, str(folder), target=make)
    until(lambda: any(file.stat().st_size > 100_000 for file in folder.glob(".mlflow.db.*.part")), "some of its tables")
    command.signal(signal.SIGKILL)
    command.wait()
    assert not (folder / "mlflow.db").exists()
    assert client(locate("", folder)).get_experiment("0").name == "Default"
    assert sorted(file.name for file in folder.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


@pytest.mark.parametrize("seed", range(3))
def test_a_half_made_database_is_set_aside_and_the_journals_fill_the_new_one(
    seed: int, location: Location, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path, runs = file_of(location), tmp_path / "runs"
    journal(runs / "k")
    ship(runs / "k", location)  # to the database that is lost now
    made = database.made_at(path)
    assert run_id(runs / "k", location)
    as_if_half_made(path, seed)
    path.with_name("mlflow.db-journal").write_bytes(b"of the half-made database")
    assert run_id(runs / "k", location) is None
    other = locate("", tmp_path / "mlruns")  # MLflow keeps connections by address
    other = Location(other.uri.replace("mlruns", "./mlruns"), other.artifacts)
    assert sync(runs, other).shipped == 1 and names(other) == ["run-k"]
    assert "half made" in capsys.readouterr().err and path.with_name("mlflow.db.half-made").exists()
    assert not path.with_name("mlflow.db-journal").exists()
    assert database.made_at(path) > made and sync(runs, other).shipped == 0


def of_an_earlier_version(path: Path) -> None:
    execute(path, "update alembic_version set version_num = 'bf29a5ff90ea'")


def without_a_table(path: Path) -> None:
    execute(path, "drop table logged_model_tags")


def overwritten(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 8192] = bytes(8192)
    path.write_bytes(content)


def with_a_text_that_is_none(path: Path) -> None:
    execute(path, "update experiments set name = cast(x'dc6465' as text)")


def no_database(path: Path) -> None:
    path.write_bytes(b"no database\n" * 1000)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("damage", "remedy"),
    [
        (of_an_earlier_version, "mlflow db upgrade"),
        *(
            (damage, "mv ")
            for damage in (without_a_table, with_a_text_that_is_none, overwritten, no_database, cut_short)
        ),
    ],
)
def test_a_database_in_use_is_never_set_aside_and_a_damaged_one_gets_a_sentence(
    damage: Callable[[Path], None], remedy: str, location: Location
) -> None:
    path = file_of(location)
    damage(path)
    before = path.read_bytes()
    database._checked.clear()
    with pytest.raises(PipelineError, match=remedy):
        client(location)
    assert path.read_bytes() == before and not path.with_name("mlflow.db.half-made").exists()


def test_the_remedy_for_a_damaged_database_brings_all_runs_back(workspace: Callable[[], Path]) -> None:
    root = workspace()
    for key in ("one", "two"):
        journal(root / "runs" / key, key)
    Command(root, "sync").succeed()
    no_database(root / "mlruns" / "mlflow.db")
    command = Command(root, "sync")
    assert command.wait() == 2 and "Traceback" not in command.output
    remedy = command.output.split("(mv ")[1].split(")")[0].split()
    Path(remedy[0]).rename(remedy[1])
    assert "2 journals shipped" in Command(root, "sync").succeed().output
    assert sorted(names(locate("", root / "mlruns"))) == ["run-one", "run-two"]


@pytest.mark.parametrize("content", [b"", bytes(512), b"not yet a header"])
def test_the_journal_of_a_process_killed_before_its_first_change_does_not_stay(tmp_path: Path, content: bytes) -> None:
    location = locate("", tmp_path)
    client(location)
    left = file_of(location).with_name("mlflow.db-journal")
    left.write_bytes(content)
    database._checked.clear()  # as in the next process
    client(location).search_experiments()
    assert not left.exists()


def test_a_database_of_others_is_left_to_mlflow(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    execute(path, "create table mine (id integer)")
    client(Location(f"sqlite:///{path}"))
    assert "mine" in tables(path) and not path.with_name("other.db.half-made").exists()
