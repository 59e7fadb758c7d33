"""Checkpoints that are whole or absent, and the folder that one run owns."""

from __future__ import annotations

import fcntl
import os
import pickle
import socket
import time
from pathlib import Path
from typing import IO, Any

import torch
from lightning_fabric.plugins import CheckpointIO

from pipeline.atomic import replacing

LAST = "last.ckpt"


def resumable(folder: Path, key: str) -> Path | None:
    """The run's last checkpoint, or None before the first.

    Raises:
        ValueError: the checkpoint belongs to another run, or is damaged.
    """
    path = folder / LAST
    if not path.exists():
        return None
    try:
        owner = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("run_key")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read ({reason}); remove it to start this run afresh") from None
    if owner != key:
        raise ValueError(f"{path} belongs to run {owner}, not {key}; remove {folder} and start again")
    return path


class AtomicCheckpointIO(CheckpointIO):
    """torch.save beside the final name, fsync, rename. Lightning's own writing can leave a torn file behind."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        with replacing(path) as part:
            torch.save(checkpoint, part)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


class FolderLock:
    """Held by the one process that may write a run's folder; released by the system when the process dies.

    Args:
        patience_s: seconds to wait for a process that holds it and is about to end.

    Raises:
        ValueError: on entering, where another process holds it still.
    """

    def __init__(self, folder: Path, patience_s: float = 0.0) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / "lock"
        self._patience_s = patience_s
        self._file: IO[str] | None = None

    def __enter__(self) -> FolderLock:
        self._file = self._path.open("a+")
        until = time.monotonic() + self._patience_s
        while not _locked(self._file):
            if time.monotonic() >= until:
                self._file.seek(0)
                holder = self._file.read().strip() or "another process"
                self._file.close()
                raise ValueError(
                    f"{self._path.parent} is being written by {holder}; wait for it to end or stop it, then run this again"
                )
            time.sleep(0.1)
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()
        for stale in self._path.parent.glob(".*.part"):
            stale.unlink(missing_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _locked(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
