"""Where a result comes from: commit, dvc.lock, host. Tags of every run."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from pathlib import Path


def lineage(root: Path) -> dict[str, str]:
    """Tags: git commit (with "+dirty" where tracked files are changed), dvc.lock's sha256, host, Python."""
    tags = {"pipeline.host": platform.node(), "pipeline.python": platform.python_version()}
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
        tags["mlflow.source.git.commit"] = commit
        tags["pipeline.commit"] = commit + ("+dirty" if dirty else "")
    lock = root / "dvc.lock"
    if lock.exists():
        tags["pipeline.dvc_lock"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return tags


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
