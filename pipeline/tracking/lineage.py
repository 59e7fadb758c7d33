"""Where a result comes from: commit, dvc.lock, host. Tags of every run."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import sys
from pathlib import Path


def lineage(root: Path) -> dict[str, str]:
    """Tags: git commit (with "+dirty" where tracked files are changed), dvc.lock's sha256, host, Python."""
    tags = {
        "pipeline.host": platform.node(),
        "pipeline.hardware": hardware(),
        "pipeline.python": platform.python_version(),
    }
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        dirty = _git(root, "status", "--porcelain", "--untracked-files=no")
        tags["mlflow.source.git.commit"] = commit
        tags["pipeline.commit"] = commit + ("+dirty" if dirty else "")
    lock = root / "dvc.lock"
    if lock.exists():
        tags["pipeline.dvc_lock"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return tags


def hardware() -> str:
    """CPU model and core count of this machine, and its GPUs where torch is loaded and sees any."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")
        ]
        model = names[0] if names else model
    described = f"{model}, {os.cpu_count()} cores"
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        described += f", {torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return described


def _git(root: Path, *arguments: str) -> str:
    try:
        return subprocess.run(["git", *arguments], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
