"""The DVC process that runs a stage: its command line, and its end, which no signal reports to the stage.

`python -m pipeline.parent` mends what a killed DVC left; `make repro` runs it first.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

EVERY_S = 1.0


def end_with_dvc() -> None:
    """Sends this process SIGTERM within seconds of the end of the DVC that runs it, if any.

    Call it before the heavy imports, since DVC may die while they run.
    """
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_watch, args=(_dvc(),), daemon=True, name="end-with-dvc").start()


def dvc_arguments() -> list[str]:
    """The words of DVC's command; none if no DVC runs this process or its command line is not readable."""
    import psutil

    try:
        return list(_dvc().cmdline()) if "DVC_STAGE" in os.environ else []
    except psutil.Error:
        return []


def _dvc() -> Any:
    """The nearest ancestor outside this stage; a shell or rank zero may stand between DVC and this process."""
    import psutil

    ancestors = psutil.Process().parents()
    for ancestor in ancestors:
        try:
            if ancestor.environ().get("DVC_STAGE") != os.environ["DVC_STAGE"]:
                return ancestor
        except psutil.Error:  # it belongs to another user
            return ancestor
    return ancestors[-1]


def _watch(dvc: Any) -> None:
    while _runs(dvc):
        time.sleep(EVERY_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _runs(process: Any) -> bool:
    import psutil

    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two calls
        return False


def remove_torn_lock(root: Path) -> bool:
    """Removes DVC's own record of locks if a kill left it half written: DVC would refuse all commands for good."""
    path = root / ".dvc" / "tmp" / "rwlock"
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return False
    except ValueError:
        path.unlink(missing_ok=True)
        return True
    return False


if __name__ == "__main__":
    if remove_torn_lock(Path.cwd()):
        print("DVC was killed while it wrote .dvc/tmp/rwlock; the torn file is removed")
