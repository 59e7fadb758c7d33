"""Servers that tests start: a command that is ready before the test goes on, and PostgreSQL."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from processes import free_port, until

POSTGRES_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path(), key=lambda p: int(p.parent.name))


@contextmanager
def running(
    command: list[str], log: Path, end: signal.Signals, ready: Callable[[], bool], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own, from the moment it is ready; afterwards none of the group is left."""
    with log.open("ab") as stream:
        process = subprocess.Popen(command, start_new_session=True, stdout=stream, stderr=subprocess.STDOUT, **options)
    try:
        until(lambda: ready() or process.poll() is not None, f"{command[0]} to be ready")
        assert process.poll() is None, log.read_text()
        yield process
    finally:
        process.send_signal(end)
        try:
            process.wait(timeout=20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def postgres_folder(password: str) -> Iterator[Path]:
    """A folder with an empty PostgreSQL cluster whose only user is mlflow; skips the test where there is no server."""
    if not (POSTGRES_BIN / "initdb").is_file():
        pytest.skip("no PostgreSQL server is installed here (Debian: postgresql)")
    # PostgreSQL refuses to run as root, and its user may not enter pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    (folder / "password").write_text(password)
    if os.getuid() == 0:
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    make = [*_as_its_user(), f"{POSTGRES_BIN}/initdb"]
    make += shlex.split("-D data -E UTF8 -U mlflow -A scram-sha-256 --pwfile=password --no-sync")
    try:
        subprocess.run(make, check=True, cwd=folder, stdout=subprocess.DEVNULL)
        yield folder
    finally:
        shutil.rmtree(folder)


@contextmanager
def postgres_serving(folder: Path, port: int) -> Iterator[None]:
    """The server over `folder`, on the loopback interface."""
    serve = [*_as_its_user(), f"{POSTGRES_BIN}/postgres", *shlex.split(f"-D data -p {port} -h 127.0.0.1 -k '' -F")]
    ask = [f"{POSTGRES_BIN}/pg_isready", *shlex.split(f"-q -h 127.0.0.1 -p {port}")]
    # SIGINT is PostgreSQL's fast shutdown; on SIGTERM it waits for its clients.
    with running(
        serve, folder / "log", signal.SIGINT, lambda: subprocess.run(ask, check=False).returncode == 0, cwd=folder
    ):
        yield


@contextmanager
def postgres_server(password: str) -> Iterator[int]:
    """Port of a new PostgreSQL, see `postgres_folder`."""
    port = free_port()
    with postgres_folder(password) as folder, postgres_serving(folder, port):
        yield port


def _as_its_user() -> list[str]:
    return shlex.split("setpriv --reuid=postgres --regid=postgres --clear-groups") if os.getuid() == 0 else []
