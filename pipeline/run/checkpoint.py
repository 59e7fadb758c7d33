"""Checkpoints that are whole or absent, and the lock that gives a run's folder one writer."""

from __future__ import annotations

import fcntl
import os
import pickle
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from lightning_fabric.plugins import CheckpointIO

from pipeline.atomic import replacing
from pipeline.errors import PipelineError

LAST = "last.ckpt"


def resumable(folder: Path, key: str) -> Path | None:
    """The run's last checkpoint, or None before the first.

    Raises:
        PipelineError: the checkpoint belongs to another run, or is damaged.
    """
    path = folder / LAST
    if not path.exists():
        return None
    try:
        owner = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("run_key")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise PipelineError(f"{path} cannot be read ({reason}); remove it to start this run anew") from None
    if owner != key:
        raise PipelineError(f"{path} belongs to run {owner}, not {key}; remove {folder} and start again")
    return path


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the final name, fsyncs and renames. Lightning's own CheckpointIO can leave a torn file behind."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with replacing(path) as part:
            torch.save(checkpoint, part)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


@contextmanager
def folder_lock(folder: Path, patience_s: float = 0.0) -> Iterator[None]:
    """Holds a run's folder for the block: one process may write it. The system frees the lock of a dead process.

    Args:
        patience_s: seconds to wait for a holder that is about to end.
    Raises:
        PipelineError: another process still holds the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+") as file:
        deadline = time.monotonic() + patience_s
        while not _locked(file):
            if time.monotonic() >= deadline:
                file.seek(0)
                holder = file.read().strip() or "another process"
                raise PipelineError(
                    f"{folder} is being written by {holder}; wait for it to end or stop it, then run this again"
                )
            time.sleep(0.1)
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        for stale in folder.glob(".*.part"):
            stale.unlink(missing_ok=True)
        yield


def _locked(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
