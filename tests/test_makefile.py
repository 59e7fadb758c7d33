"""The Makefile below odd paths, and without git."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from imports import ROOT
from processes import free_port, until

ODD = "a b's é猫 $x %2e"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The tracked files without .git, below a folder of an odd name, with the environment of the tests."""
    root = tmp_path / ODD
    for name in subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    (root / ".venv").mkdir()
    for name in ("bin", "lib", "pyvenv.cfg"):
        (root / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (root / ".venv" / ".installed").touch()
    return root


@pytest.mark.slow
def test_mlflows_pages_are_served_below_an_odd_path(checkout: Path, mlflow_database: Path):
    import urllib.request

    (checkout / "mlruns").mkdir()
    shutil.copy(mlflow_database, checkout / "mlruns")
    port = free_port()
    with (checkout / "log").open("wb") as log:
        command = ["make", "ui", f"PORT={port}"]
        server = subprocess.Popen(command, cwd=checkout, stdout=log, stderr=log, start_new_session=True)

    def answers() -> bool:
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).status == 200
        except OSError:
            return False

    try:
        until(lambda: answers() or server.poll() is not None, "MLflow's pages")
        assert server.poll() is None, (checkout / "log").read_text()
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(20)


def test_a_port_that_is_in_use_is_one_sentence(checkout: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(["make", "ui", f"PORT={port}"], cwd=checkout, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert done.stderr.startswith(f"port {port} is in use; ") and f"make ui PORT={port + 1}\n" in done.stderr
    assert not (checkout / "mlruns").exists()


def test_a_lock_that_a_kill_left_torn_is_removed_before_dvc_runs(checkout: Path) -> None:
    lines = subprocess.check_output(["make", "-n", "repro"], cwd=checkout, text=True).splitlines()
    (mend,) = (line for line in lines[: lines.index("dvc repro")] if "pipeline.parent" in line)
    lock = checkout / ".dvc" / "tmp" / "rwlock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    environment = {**os.environ, "PATH": f"{checkout}/.venv/bin:{os.environ['PATH']}"}
    subprocess.run(["sh", "-ec", mend], cwd=checkout, env=environment, check=True)
    assert not lock.exists()


def test_another_system_than_linux_is_refused_before_anything_is_installed() -> None:
    words = ["make", "-n", "-W", "requirements.txt", ".venv/.installed"]  # as if that file had changed
    lines = subprocess.check_output(words, cwd=ROOT, text=True).splitlines()
    (at,) = (at for at, line in enumerate(lines) if "sys.platform" in line)
    assert not any("-m venv" in line for line in lines[:at])
    *_, check = shlex.split(lines[at])
    for system, status in (("linux", 0), ("darwin", 1)):
        code = f"import sys; sys.platform = '{system}'; {check}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr.startswith("Linux is needed; ")) == (status, bool(status))


@pytest.mark.slow
def test_an_unpacked_archive_of_the_repository_needs_no_git(checkout: Path):
    (checkout / ".venv" / ".installed").unlink()
    lines = subprocess.check_output(["make", "-n", "repro"], cwd=checkout, text=True).splitlines()
    settings = next(i for i, line in enumerate(lines) if line.startswith("mkdir"))  # right after the installation
    before = lines[settings : lines.index("dvc repro")]
    environment = {**os.environ, "PATH": f"{checkout}/.venv/bin:{os.environ['PATH']}"}
    environment["GIT_CEILING_DIRECTORIES"] = str(checkout.parent)
    script = "\n".join([*before, "dvc repro preprocess"])
    subprocess.run(["sh", "-ec", script], cwd=checkout, env=environment, check=True)
    assert (checkout / "data" / "store" / "digits" / "manifest.json").is_file()
    assert any((checkout / ".dvc" / "tmp" / "site").iterdir())


def test_results_are_released_from_a_commit_and_to_a_remote_alone(checkout: Path) -> None:
    def refusal() -> str:
        done = subprocess.run(["make", "release"], cwd=checkout, capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "Running stage" not in done.stdout
        return done.stderr

    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=checkout, check=True)
    assert refusal().startswith("DVC has no default remote to push to; name one: dvc remote add --default")
    (checkout / "dvc.lock").write_text("")  # which is to be made
    (checkout / "params.yaml").write_text("data: cifar10\n")
    assert refusal().startswith("tracked files differ from the last commit; commit or restore them")


def test_another_build_of_torch_leaves_out_what_cudas_alone_needs(checkout: Path):
    (checkout / ".venv" / ".installed").unlink()
    lines = subprocess.check_output(
        ["make", "-n", "TORCH=cpu", ".venv/.installed"], cwd=checkout, text=True
    ).splitlines()
    (chosen,) = (line for line in lines if line.startswith("awk "))
    subprocess.run(["sh", "-ec", chosen], cwd=checkout, check=True)
    needed_by, kept = (_needed_by(checkout / name) for name in ("requirements.txt", ".venv/requirements.txt"))
    left_out = needed_by.keys() - kept.keys()
    assert {"torch", "torchvision"} < left_out and kept == {name: needed_by[name] for name in kept}
    assert all(needed_by[name] <= left_out for name in left_out - {"torch", "torchvision"})
    assert not [name for name in kept if name.startswith(("nvidia", "cuda", "triton"))]
    (torch,) = (line for line in lines if "--torch-backend=cpu" in line)
    command = f"echo {torch.partition('--torch-backend=cpu ')[2]}"
    named = subprocess.check_output(["sh", "-ec", command], cwd=checkout, text=True).split()
    locked = re.findall(r"^(?:torch|torchvision)==\S+", (checkout / "requirements.txt").read_text(), re.M)
    assert named == locked and len(named) == 2


@pytest.mark.parametrize("torch", ["", "cpu"])
def test_what_has_no_wheel_is_built_by_the_locked_setuptools(checkout: Path, torch: str) -> None:
    (checkout / ".venv" / ".installed").unlink()
    dry_run = ["make", "-n", f"TORCH={torch}", ".venv/.installed"]
    lines = subprocess.check_output(dry_run, cwd=checkout, text=True).splitlines()
    first, second = [line for line in lines if "uv pip install" in line and "--require-hashes" in line]
    locked = subprocess.check_output(["sh", "-ec", first.partition(" | ")[0]], cwd=checkout, text=True)
    assert re.match(r"setuptools==\S+ \\\n    --hash=sha256:", locked) and locked.count("==") == 1
    assert "--no-build-isolation-package antlr4-python3-runtime" in second


def test_an_environment_without_pip_is_made_anew_and_no_other(checkout: Path) -> None:
    """venv leaves one without pip where python3-venv is missing, which the user then installs."""
    (checkout / ".venv" / ".installed").unlink()
    dry_run = ["make", "-n", "PYTHON=echo", ".venv/.installed"]
    lines = subprocess.check_output(dry_run, cwd=checkout, text=True).splitlines()
    (command,) = (line for line in lines if "-m venv" in line)

    def made() -> str:
        return subprocess.check_output(["sh", "-ec", command], cwd=checkout, text=True)

    assert made() == ""
    shutil.rmtree(checkout / ".venv")
    venv.create(checkout / ".venv", symlinks=True, with_pip=False)
    assert made() == "-m venv --clear .venv\n"


def _needed_by(lock: Path) -> dict[str, set[str]]:
    """Package -> the packages that need it, by the lock's comments."""
    found: dict[str, set[str]] = {}
    for line in lock.read_text().splitlines():
        if name := re.match(r"[a-z0-9][\w.-]*(?===)", line):
            needing = found[name[0]] = set()
        elif (other := re.match(r"    #(?: via)? +([\w.-]+)$", line)) and other[1] != "via":
            needing.add(other[1])
    return found
