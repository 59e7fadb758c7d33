"""MLflow and PostgreSQL with the arguments and the secrets of docker-compose.yml."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from compose_command import HARD, PUBLIC, compose, option
from imports import ROOT
from processes import free_port

from benchmarks.servers import POSTGRES_BIN, NoServerError, postgres_server, running


def _status(port: int, host: str) -> int:
    """HTTP status of a question to MLflow's API under the name `host`; 0 while nobody listens."""
    url = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers={"Host": host}), timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextmanager
def _mlflow(service: dict[str, Any], folder: Path, backend: str) -> Iterator[int]:
    """Port of a server with the arguments of docker-compose.yml, save for where it listens and what it stores in."""
    port = free_port()
    replaced = {"--host": "127.0.0.1", "--port": f"{port}", "--workers": "1"}
    replaced |= {"--backend-store-uri": backend, "--artifacts-destination": f"{folder}/artifacts"}
    command = [part for part in service["command"] if part.partition("=")[0] not in replaced]
    command[0] = command[0] if command[0] == "sh" else str(Path(sys.executable).parent / command[0])
    command += [f"{name}={value}" for name, value in replaced.items()]
    ours = {key: value for key, value in service["environment"].items() if key.startswith("MLFLOW_")}
    options = {"cwd": folder, "env": {**os.environ, **ours}}
    with running(command, folder / "mlflow.log", signal.SIGTERM, lambda: _status(port, "localhost") != 0, **options):
        yield port


def _healthcheck(service: dict[str, Any], port: int, host: str) -> int:
    code = service["healthcheck"]["test"][-1]
    code = code.replace("127.0.0.1:5000", f"127.0.0.1:{port}").replace('"mlflow:5000"', f'"{host}"')
    return subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL, timeout=30).returncode


def _rotate(word: str, secrets: Path, folder: Path, port: int, **environment: str) -> Path:
    """Runs the commands of docs/security.md that hold `word`, with servers of this machine for containers.

    Returns docker/secrets/ with the new password, in a copy of the checkout.
    """
    page = (ROOT / "docs" / "security.md").read_text()
    (commands,) = (block for block in re.findall(r"(?:^    .*\n)+", page, re.MULTILINE) if word in block)
    checkout = shutil.copytree(secrets.parents[1], folder / "checkout")
    docker = folder / "bin" / "docker"
    docker.parent.mkdir()
    # docker compose exec -T SERVICE COMMAND
    docker.write_text('#!/bin/sh\n[ "$2" = exec ] || exit 0\nshift 4\nexec "$@"\n')
    docker.chmod(0o755)
    path = f"{docker.parent}:{Path(sys.executable).parent}:{POSTGRES_BIN}:{os.environ['PATH']}"
    script = textwrap.dedent(commands).replace("localhost:5000", f"127.0.0.1:{port}")
    subprocess.run(["sh", "-ec", script], check=True, cwd=checkout, env={**os.environ, **environment, "PATH": path})
    return checkout / "docker" / "secrets"


@pytest.mark.slow
def test_mlflow_answers_its_own_names_and_no_other(services: dict[str, Any], tmp_path: Path) -> None:
    mlflow = services["mlflow"]
    with _mlflow(mlflow, tmp_path, f"sqlite:///{tmp_path}/mlflow.db") as port:
        for host in ("mlflow:5000", "localhost:5000", "127.0.0.1:5000"):
            assert _status(port, host) == 200, host
        assert _status(port, "evil.example") == 403
        assert _healthcheck(mlflow, port, "mlflow:5000") == 0
        assert _healthcheck(mlflow, port, "evil.example") != 0


@pytest.fixture
def postgres(secrets: Path) -> Iterator[int]:
    """Port of a PostgreSQL that knows the user and the password of docker-compose.yml."""
    try:
        with postgres_server((secrets / "postgres_password").read_text()) as port:
            yield port
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_mlflow_keeps_runs_in_postgresql_under_the_secret_password(
    services: dict[str, Any], secrets: Path, postgres: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow
    import psycopg

    server, password = f"127.0.0.1:{postgres}", HARD
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://mlflow@{server}/postgres", passfile=os.devnull)
    with psycopg.connect(f"postgresql://mlflow@{server}/postgres", password=password, autocommit=True) as connection:
        connection.execute("CREATE DATABASE mlflow")

    passfile = tmp_path / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text((secrets / "pgpass").read_text().replace("postgres:5432", server))
    monkeypatch.setenv("PGPASSFILE", str(passfile))
    backend = option(services["mlflow"], "--backend-store-uri").replace("postgres:5432", server)
    assert backend.startswith("postgresql+psycopg://")
    with _mlflow(services["mlflow"], tmp_path, backend) as port:
        client = mlflow.MlflowClient(f"http://127.0.0.1:{port}")
        run = client.create_run(client.create_experiment("resnet"), run_name="digits-resnet14").info.run_id
        client.log_metric(run, "val/err1", 0.25, step=17)
        client.log_text(run, "weights", "best.txt")
        client.set_terminated(run)
        assert client.get_run(run).data.metrics == {"val/err1": 0.25}
        assert [file.path for file in client.list_artifacts(run)] == ["best.txt"]
    assert next((tmp_path / "artifacts").rglob("best.txt")).read_text() == "weights"
    with psycopg.connect(f"postgresql://mlflow@{server}/mlflow") as connection:
        rows = connection.execute("SELECT key, value, step FROM metrics WHERE run_uuid = %s", [run]).fetchall()
    assert rows == [("val/err1", 0.25, 17)]

    login = {"PGHOST": "127.0.0.1", "PGPORT": f"{postgres}", "PGPASSWORD": HARD}
    changed = _rotate("ALTER USER", secrets, tmp_path, postgres, **login)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://mlflow@{server}/mlflow", password=HARD)
    passfile.write_text((changed / "pgpass").read_text().replace("postgres:5432", server))
    psycopg.connect(f"postgresql://mlflow@{server}/mlflow").close()


@pytest.mark.slow
def test_with_users_mlflow_refuses_whoever_has_no_password(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    files = (*PUBLIC, "config", "--format", "json")
    service = json.loads(compose(*files).stdout)["services"]["mlflow"]
    users, home = tmp_path / "mlflow_auth", tmp_path / "home"
    users.write_text(
        re.sub(
            "database_uri = .*", f"database_uri = sqlite:///{tmp_path}/users.db", (secrets / "mlflow_auth").read_text()
        )
    )
    (home / ".mlflow").mkdir(parents=True)
    shutil.copy(secrets / "mlflow_credentials", home / ".mlflow" / "credentials")
    start = service["entrypoint"][5].replace("/run/secrets", str(secrets)).replace("$$", "$")
    service["command"] = [
        "sh",
        "-ec",
        start,
        "sh",
        str(Path(sys.executable).parent / "mlflow"),
        *service["command"][1:],
    ]
    service["environment"]["MLFLOW_AUTH_CONFIG_PATH"] = str(users)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    with _mlflow(service, tmp_path, f"sqlite:///{tmp_path}/mlflow.db") as port:
        assert _status(port, "mlflow:5000") == 401
        monkeypatch.setenv("HOME", str(home))
        assert mlflow.MlflowClient(f"http://127.0.0.1:{port}").search_experiments()
        service["healthcheck"]["test"][-1] = service["healthcheck"]["test"][-1].replace("/run/secrets", str(secrets))
        assert _healthcheck(service, port, "mlflow:5000") == 0

        changed = _rotate("update_user_password", secrets, tmp_path, port)
        with pytest.raises(mlflow.MlflowException):  # with the old password
            mlflow.MlflowClient(f"http://127.0.0.1:{port}").search_experiments()
        shutil.copy(changed / "mlflow_credentials", home / ".mlflow" / "credentials")
        assert mlflow.MlflowClient(f"http://127.0.0.1:{port}").search_experiments()
