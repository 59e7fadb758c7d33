"""Real commands in a workspace of their own, watched while they run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 600.0
POLL_S = 0.1
# What would lead a command to other runs, another MLflow or another cluster than its workspace's.
_ELSEWHERE = ("PIPELINE_RUNS", "PIPELINE_MLRUNS", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "DVC_STAGE", "DVC_ROOT")


def workspace(root: Path, name: str, store: Path) -> Path:
    """Makes `root` a workspace with this clone's configuration, in which `store` is data set `name`; runs there stay.

    Raises:
        FileNotFoundError: the package lies outside a clone.
    """
    if not (ROOT / "conf").is_dir():
        raise FileNotFoundError(f"{ROOT / 'conf'} is missing; sweeps are measured in a clone of the repository")
    shutil.copytree(ROOT / "conf", root / "conf", dirs_exist_ok=True)
    (root / "params.yaml").write_text("set: {}\n")
    link = root / "data" / "store" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(store.resolve(), target_is_directory=True)
    return root


def environment() -> dict[str, str]:
    """The caller's, led to this clone's code and to the workspace's own runs and MLflow."""
    found = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
    found["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return found


def run(
    root: Path, module: str, *arguments: str, watch: Callable[[int], None] | None = None, patience_s: float = PATIENCE_S
) -> float:
    """Seconds that `python -m module arguments` takes in `root`.

    Args:
        watch: called every tenth of a second with the process's id.

    Raises:
        ValueError: it failed, with the end of what it said.
        TimeoutError: it was late, and was ended with all its children.
    """
    said, log = " ".join((module, *arguments)), root / "output.txt"
    start = time.monotonic()
    with log.open("w") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=root,
            env=environment(),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            if time.monotonic() > start + patience_s:
                raise TimeoutError(f"{said} took more than {patience_s:g} s")
            if watch is not None:
                watch(process.pid)
            time.sleep(POLL_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        end = log.read_text(errors="replace")[-4000:]
        raise ValueError(f"{said} ended with exit code {process.returncode}:\n{end}")
    return time.monotonic() - start
