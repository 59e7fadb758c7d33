"""The README's walk from a clone to a served prediction, typed as it stands; it installs everything, as its reader does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from imports import ROOT
from test_readme import PAGES, WALK, section

pytestmark = pytest.mark.slow


def clone(folder: Path) -> Path:
    """A clone of the working tree, with changes that are not committed yet."""
    listed = ["git", "ls-files", "-co", "--exclude-standard"]
    for name in subprocess.check_output(listed, cwd=ROOT, text=True).splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    for command in (
        ["init", "-q"],
        ["add", "-A"],
        ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "all"],
    ):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


def test_a_clone_serves_a_prediction_after_the_readmes_commands(tmp_path):
    root = clone(tmp_path / "resnet")
    *commands, last_curl, kill = section("README.md", WALK)
    (documented,) = [line.strip() for line in PAGES["docs/serving.md"].splitlines() if line.startswith("    curl")]
    assert last_curl.startswith("curl") and kill.startswith("kill")
    mark = "echo; echo '== answers =='"
    script = "\n".join(
        ["set -e", *commands, mark, last_curl, "echo", "cp /tmp/digit.png image.png", documented, kill, "wait || true"]
    )
    # The reader's shell has no environment of Python's, and none of this project's settings.
    kept = {name: os.environ[name] for name in ("HOME", "PATH", "LANG", "SSL_CERT_FILE") if name in os.environ}
    kept |= {
        name: value for name, value in os.environ.items() if name.startswith(("UV_", "PIP_")) or "proxy" in name.lower()
    }
    path = ":".join(part for part in kept["PATH"].split(":") if not part.startswith(str(ROOT)))
    try:
        done = subprocess.run(
            ["bash", "-c", script], cwd=root, env={**kept, "PATH": path}, capture_output=True, text=True, check=False
        )
    finally:
        shutil.rmtree(root / ".venv", ignore_errors=True)  # of several gigabytes
    assert done.returncode == 0, done.stdout + done.stderr
    before, _, answers = done.stdout.partition("== answers ==\n")
    assert "report" in before and "digit.png" in before  # of the experiment, and of `pipeline predict`
    answered = [
        json.loads(line) for line in answers.splitlines() if line.startswith("{")
    ]  # beside the server's own line
    assert len(answered) == 2
    for answer in answered:
        (shares,) = answer["predictions"]
        assert max(shares, key=shares.get) == "7" and shares["7"] > 0.9
