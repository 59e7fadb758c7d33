"""Where a result comes from: commit, dvc.lock, host and hardware, as tags of every run."""

from __future__ import annotations

import getpass
import hashlib
import os
import platform
import re
import subprocess
import sys
from pathlib import Path


def lineage(root: Path) -> dict[str, str]:
    """Tags of what this process makes from the code and data below `root`."""
    return {**source(root), **machine()}


def machine() -> dict[str, str]:
    """Tags: host, hardware, Python. A trial's are those of the process that trains."""
    return {
        "pipeline.host": platform.node(),
        "pipeline.hardware": hardware(),
        "pipeline.python": platform.python_version(),
        "mlflow.user": user(),
        "mlflow.source.name": "pipeline",
        "mlflow.source.type": "LOCAL",
    }


def user() -> str:
    """Name of the user whose process this is."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # of an id without an account, as in some containers
        return str(os.getuid())


def source(root: Path) -> dict[str, str]:
    """Tags: git commit ("+dirty" if tracked files have changed), dvc.lock's sha256.

    Two files do not count as changed: dvc.lock, which each stage before a training rewrites and which has a tag of its own,
    and params.yaml, which `dvc exp run -S` rewrites and whose values are recorded as the configuration.
    """
    tags = {}
    commit = _git(root, "rev-parse", "HEAD")
    if commit:
        paths = (".", ":(exclude)dvc.lock", ":(exclude)params.yaml")
        dirty = _git(root, "status", "--porcelain", "--untracked-files=no", "--", *paths)
        tags["mlflow.source.git.commit"] = commit
        tags["pipeline.commit"] = commit + ("+dirty" if dirty else "")
    lock = root / "dvc.lock"
    if lock.exists():
        tags["pipeline.dvc_lock"] = hashlib.sha256(lock.read_bytes()).hexdigest()
    return tags


def hardware() -> str:
    """CPU model and core count of this machine, and its GPUs if torch is loaded and has any."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    parts = [model[1] if model else platform.processor() or platform.machine(), f"{os.cpu_count()} cores"]
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        parts.append(f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}")
    return ", ".join(parts)


def _git(root: Path, *arguments: str) -> str:
    # Git asks for this option where the checkout is another user's. Whoever runs this code trusts it already.
    command = ["git", "-c", f"safe.directory={root.resolve()}", *arguments]
    try:
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
