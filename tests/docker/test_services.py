"""What docker-compose.yml and its companions say, and the files that they name."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
from compose_command import PUBLIC, compose, option
from imports import ROOT


def test_compose_accepts_the_file_and_refuses_a_broken_copy(tmp_path: Path) -> None:
    done = compose("config", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    text = (ROOT / "docker-compose.yml").read_text()
    (tmp_path / "docker-compose.yml").write_text(text.replace("service_healthy", "service_happy", 1))
    done = compose("config", "--quiet", directory=tmp_path)
    assert done.returncode != 0 and "depends_on" in done.stderr


def test_the_services_are_the_documented_ones(services: dict[str, Any]) -> None:
    assert set(services) == {"postgres", "s3", "bucket", "mlflow", "ray-head", "ray-worker", "trainer"}
    assert [name for name, service in services.items() if "profiles" in service] == ["trainer"]


def test_ports_are_published_on_loopback_only(services: dict[str, Any]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert {port["published"] for port in ports} == {"5000", "8265"}
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}


def test_images_of_other_projects_are_pinned_by_tag_and_digest() -> None:
    files = "".join(
        (ROOT / path).read_text() for path in ("docker-compose.yml", "docker/public.yml", "docker/Dockerfile")
    )
    images = set(re.findall(r"^ *(?:image:|FROM) (\S+)", files, re.MULTILINE)) - {"resnet-pipeline:0.1.0"}
    assert {image.split(":")[0] for image in images} == {"postgres", "chrislusf/seaweedfs", "caddy", "python"}
    for image in images:
        assert re.fullmatch(r"[\w./-]+:(?!latest)[^\s@]*\d[^\s@]*@sha256:[0-9a-f]{64}", image), image


@pytest.mark.parametrize("files", [(), PUBLIC])
def test_no_service_has_more_rights_than_it_needs(files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    for name, service in json.loads(compose(*files, "config", "--format", "json").stdout)["services"].items():
        assert service["cap_drop"] == ["ALL"] and service["security_opt"] == ["no-new-privileges:true"], name
        assert service["pids_limit"] > 0 and int(service["mem_limit"]) > 0, name
        assert service.get("read_only") or name == "s3", name


@pytest.mark.parametrize("files", [(), PUBLIC])
def test_containers_reach_each_other_without_the_proxy_that_docker_gives_them(
    files: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    found = json.loads(compose(*files, "config", "--format", "json").stdout)["services"]
    for name, service in found.items():
        direct = service["environment"]["NO_PROXY"]
        assert service["environment"]["no_proxy"] == direct, name
        assert set(direct.split(",")) == {"localhost", "127.0.0.1", "mlflow", "s3", "postgres", "ray-head"}, name
    assert found["s3"]["healthcheck"]["test"][1:4] == ["wget", "-Y", "off"]  # BusyBox's, which knows no NO_PROXY


def test_the_image_is_built_from_a_package_index_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    indexes = ("PIP_INDEX_URL", "UV_DEFAULT_INDEX")
    dockerfile = (ROOT / "docker/Dockerfile").read_text()
    assert re.findall(r"^ARG (\S+)$", dockerfile.partition("RUN ")[0], re.MULTILINE) == [*indexes]
    for value in ("https://pypi.example.org/simple", None):
        for name in indexes:
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
        arguments = json.loads(compose("config", "--format", "json").stdout)["services"]["mlflow"]["build"]["args"]
        assert [arguments.get(name) for name in indexes] == [value, value]


def test_opened_to_the_network_mlflow_asks_for_a_password_and_tls_is_all_that_is_published(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = (*PUBLIC, "config", "--format", "json")
    monkeypatch.delenv("PUBLIC_HOST", raising=False)
    assert "PUBLIC_HOST" in compose(*files).stderr
    monkeypatch.setenv("PUBLIC_HOST", "mlflow.example.org")
    public = json.loads(compose(*files).stdout)["services"]
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
    port = option(services["mlflow"], "--port")
    assert head["environment"]["MLFLOW_TRACKING_URI"] == f"http://mlflow:{port}"


def test_dvc_works_in_the_container_as_it_does_on_the_host(
    services: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its cache where the container may write, whatever config.local says, and its commits have an author."""
    from dvc.dirs import site_cache_dir
    from scmrepo.git import Git

    trainer = services["trainer"]
    for key, value in trainer["environment"].items():
        if key.startswith(("DVC_", "GIT_")):
            monkeypatch.setenv(key, value)
    cache = Path(site_cache_dir("/home/someone/checkout/.dvc/tmp/site"))
    mounted = [Path(volume["target"]) for volume in trainer["volumes"] if not volume.get("read_only")]
    assert any(cache.is_relative_to(folder) for folder in mounted)
    assert f"mkdir -p -m 700 {cache.relative_to('/workspace')}" in (ROOT / trainer["entrypoint"][-1]).read_text()
    git = Git.init(str(tmp_path)).pygit2
    assert all(each.name and "@" in each.email for each in (git.author, git.committer))


def test_the_gpu_file_reserves_gpus_for_worker_and_trainer_with_cpus_and_memory_for_all_of_them(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NODE_MEMORY", raising=False)
    done = compose("--file", "docker-compose.yml", "--file", "docker/gpu.yml", "config", "--format", "json")
    assert (done.returncode, done.stderr) == (0, "")
    changed = {name: new for name, new in json.loads(done.stdout)["services"].items() if new != services[name]}
    assert set(changed) == {"ray-worker", "trainer"}
    for service in changed.values():
        assert "gpu" in service["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"]
        assert not int(service.get("mem_limit", 0))
    shared = [part for part in services["ray-worker"]["command"] if not part.startswith("--num-cpus")]
    assert changed["ray-worker"]["command"] == shared


def test_the_dockerfile_installs_the_lock_and_the_console_command() -> None:
    dockerfile, lock = ((ROOT / path).read_text() for path in ("docker/Dockerfile", "requirements.txt"))
    locked = re.findall(r"--require-hashes --requirement (\S+)", dockerfile)
    assert "requirements.txt" in locked and all("--hash=sha256:" in (ROOT / name).read_text() for name in locked)
    (setuptools,) = re.findall(r"sed -n .* requirements\.txt", dockerfile)
    assert setuptools in (ROOT / "Makefile").read_text()
    assert "--no-build-isolation-package antlr4-python3-runtime" in dockerfile
    command = re.search(r'^CMD \["(\w+)"', dockerfile, re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert command and command[1] in project["scripts"]
    # Without the extra ray[default] the head starts all the same, and nothing listens on its dashboard's port.
    assert re.search(r"^aiohttp-cors==", lock, re.MULTILINE)


def test_what_torch_compiles_can_be_compiled_and_loaded(services: dict[str, Any]) -> None:
    (packages,) = re.findall(r"apt-get install .*", (ROOT / "docker/Dockerfile").read_text())
    assert "g++" in packages.split()
    # Triton's cache is in the home folder.
    assert [folder.split(",")[0] for folder in services["ray-worker"]["tmpfs"]] == ["/tmp:exec", "/home/pipeline:exec"]


def test_the_scripts_exist_and_reach_their_container(services: dict[str, Any]) -> None:
    assert (ROOT / services["trainer"]["entrypoint"][-1]).stat().st_mode & stat.S_IXUSR
    assert (ROOT / services["bucket"]["command"][1]).is_file()
    # The bucket's service mounts no checkout, so its script must pass .dockerignore.
    assert "!docker/*.py" in (ROOT / ".dockerignore").read_text().splitlines()
