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
from threading import Timer

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 600.0
POLL_S = 0.1
# Would lead a command to other runs, another MLflow or another cluster than its workspace's.
_ELSEWHERE = ("PIPELINE_RUNS", "PIPELINE_MLRUNS", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "DVC_STAGE", "DVC_ROOT")


def workspace(root: Path, name: str, store: Path) -> Path:
    """Makes `root` a workspace with this clone's configuration, in which `store` is data set `name`; runs there stay."""
    shutil.copytree(ROOT / "conf", root / "conf", dirs_exist_ok=True)
    (root / "params.yaml").write_text("set: {}\n", encoding="utf-8")
    link = root / "data" / "store" / name
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(store.resolve(), target_is_directory=True)
    return root


def environment() -> dict[str, str]:
    """The caller's, but for this clone's code and the workspace's own runs and MLflow."""
    values = {key: value for key, value in os.environ.items() if key not in _ELSEWHERE}
    values["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return values


def run(
    root: Path,
    module: str,
    *arguments: str,
    watch: Callable[[int], None] | None = None,
    patience_s: float = PATIENCE_S,
) -> float:
    """Seconds that `python -m module arguments` takes in `root`; output.txt there keeps what it prints.

    Args:
        watch: called every tenth of a second with the process's id.

    Raises:
        ValueError: it failed, with the end of its output.
        TimeoutError: it took too long, and was ended with all its children.
    """
    return execute(root, [sys.executable, "-m", module, *arguments], watch, patience_s)


def execute(
    root: Path, command: list[str], watch: Callable[[int], None] | None = None, patience_s: float = PATIENCE_S
) -> float:
    """As `run`, for any command."""
    title, log = " ".join(command).removeprefix(f"{sys.executable} -m "), root / "output.txt"
    start = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=root, env=environment(), stdout=output, stderr=output, start_new_session=True
        )
    # `process.wait(patience_s)` would look every 50 ms, which is half of what `--help` takes.
    deadline = Timer(patience_s, os.killpg, (process.pid, signal.SIGKILL))
    deadline.start()
    try:
        while watch is not None and process.poll() is None:
            watch(process.pid)
            time.sleep(POLL_S)
        process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        deadline.cancel()
    seconds = time.monotonic() - start
    if process.returncode == -signal.SIGKILL and seconds >= patience_s:
        raise TimeoutError(f"{title} took more than {patience_s:g} s")
    if process.returncode:
        end = log.read_text(encoding="utf-8", errors="replace")[-4000:]
        raise ValueError(f"{title} ended with exit code {process.returncode}:\n{end}")
    return seconds
