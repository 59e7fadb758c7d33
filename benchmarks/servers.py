"""Servers that measurements and tests start: PostgreSQL, MLflow, or any command that is ready before they go on."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

POSTGRES_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path(), key=lambda p: int(p.parent.name))

PATIENCE_S = 180.0  # for a server to be ready


class NoServerError(Exception):
    """A server's program is not installed here."""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


@contextmanager
def running(
    command: list[str], log: Path, end: signal.Signals, ready: Callable[[], bool], **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own, from the moment it is ready; afterwards none of the group is left."""
    with log.open("ab") as stream:
        process = subprocess.Popen(command, start_new_session=True, stdout=stream, stderr=subprocess.STDOUT, **options)
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not ready():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{command[0]} does not start:\n{log.read_text(encoding='utf-8', errors='replace')}")
            time.sleep(0.02)
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
    """A folder with an empty PostgreSQL cluster whose only user is mlflow.

    Raises:
        NoServerError: PostgreSQL is not installed.
    """
    if not (POSTGRES_BIN / "initdb").is_file():
        raise NoServerError("no PostgreSQL server is installed here (Debian: postgresql)")
    # PostgreSQL refuses to run as root, and its user may not enter pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    (folder / "password").write_text(password, encoding="utf-8")
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
def postgres_serving(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """The server over `folder`, on the loopback interface."""
    serve = [*_as_its_user(), f"{POSTGRES_BIN}/postgres", *shlex.split(f"-D data -p {port} -h 127.0.0.1 -k '' -F")]
    ask = [f"{POSTGRES_BIN}/pg_isready", *shlex.split(f"-q -h 127.0.0.1 -p {port}")]
    # SIGINT is PostgreSQL's fast shutdown; on SIGTERM it waits for its clients.
    with running(
        serve, folder / "log", signal.SIGINT, lambda: subprocess.run(ask, check=False).returncode == 0, cwd=folder
    ) as process:
        yield process


@contextmanager
def postgres_server(password: str) -> Iterator[int]:
    """Port of a new PostgreSQL, see `postgres_folder`."""
    port = free_port()
    with postgres_folder(password) as folder, postgres_serving(folder, port):
        yield port


@contextmanager
def mlflow_server(host: str, port: int, backend: str, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """MLflow over a database, with its artifacts in `folder`, reachable by the name `host`."""
    options = {"host": "0.0.0.0" if host != "127.0.0.1" else host, "port": port, "workers": 1}
    options |= {
        "backend-store-uri": backend,
        "artifacts-destination": folder / "artifacts",
        "allowed-hosts": f"{host}:*",
    }
    uri = f"http://{host}:{port}"
    words = [f"--{name}={value}" for name, value in options.items()]
    command = [str(Path(sys.executable).with_name("mlflow")), "server", *words]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    with running(
        command, folder / "mlflow.txt", signal.SIGTERM, lambda: answers(uri), env={**os.environ, **quiet}
    ) as process:
        yield process


def answers(uri: str) -> bool:
    """Whether MLflow's API at `uri` does."""
    with suppress(OSError):
        return (
            urllib.request.urlopen(f"{uri}/api/2.0/mlflow/experiments/search?max_results=1", timeout=10).status == 200
        )
    return False


def _as_its_user() -> list[str]:
    return shlex.split("setpriv --reuid=postgres --regid=postgres --clear-groups") if os.getuid() == 0 else []


@contextmanager
def s3_server(address: str, port: int, bucket: str, folder: Path) -> Iterator[str]:
    """The URL of an S3-compatible server (moto) with an empty bucket, which keeps its objects in memory."""
    url = f"http://{address}:{port}"

    def ready() -> bool:
        with suppress(OSError):
            return (
                urllib.request.urlopen(urllib.request.Request(f"{url}/{bucket}", method="PUT"), timeout=5).status == 200
            )
        return False

    command = [str(Path(sys.executable).parent / "moto_server"), "--host", address, "--port", str(port)]
    with running(command, folder / "s3.log", signal.SIGTERM, ready):
        yield url


def s3_environment(url: str) -> dict[str, str]:
    """What clients of an `s3_server` need."""
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test-secret"}
    return {"AWS_ENDPOINT_URL": url, "AWS_DEFAULT_REGION": "us-east-1", **keys}
