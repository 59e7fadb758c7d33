"""Checkpoints that are whole or absent, and the lock that gives a run's folder one writer."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import torch
from lightning_fabric.plugins import CheckpointIO

from pipeline.atomic import replacing
from pipeline.errors import DamagedError, MissingError, PipelineError, printable
from pipeline.run.launch import rank
from pipeline.run.weights import BEST, load_weights

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"  # the one before it, until the training is complete


def resumable(folder: Path, key: str) -> Path | None:
    """The run's newest whole checkpoint, None before the first. stderr is told if the last one is damaged.

    Raises:
        PipelineError: no checkpoint is whole, it belongs to another run, or the best weights so far are damaged.
    """
    anew = f"remove {folder}/*.ckpt to train this run anew"
    damage = ""
    for path in filter(Path.exists, (folder / LAST, folder / PREVIOUS)):
        try:
            content = _whole(path)
        except DamagedError as error:
            damage = damage or str(error)
            continue
        if content.get("run_key") != key:
            raise PipelineError(
                f"{path} belongs to run {content.get('run_key')}, not {key}; remove {folder} and start again"
            )
        if damage and rank() == 0:
            print(f"{damage}; going on from {PREVIOUS}, the checkpoint before it", file=sys.stderr)
        if content.get("callbacks", {}).get("Recorder", {}).get("best"):
            _require_best(folder / BEST, anew)
        return path
    if damage:
        raise PipelineError(f"{damage}, and no earlier checkpoint is whole; {anew}")
    return None


def _whole(path: Path) -> dict[str, Any]:
    """The checkpoint's content, its tensors mapped.

    Raises:
        DamagedError: torch cannot read it, or a part disagrees with its CRC-32, which torch writes and never checks.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if part := archive.testzip():
                raise DamagedError(f"{path} is damaged ({printable(part)} has changed since it was written)")
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (DamagedError, PermissionError):
        raise
    except Exception as error:  # damaged bytes raise errors of many kinds, from zipfile, pickle and torch
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedError(f"{path} is damaged ({printable(reason)})") from None


def _require_best(path: Path, remedy: str) -> None:
    """Raises PipelineError unless the weights that the checkpoint counts on are whole: it cannot make them again."""
    try:
        load_weights(path, remedy)
    except FileNotFoundError:
        raise MissingError(f"{path} is missing, the best weights so far; {remedy}") from None


class AtomicCheckpointIO(CheckpointIO):
    """Writes beside the final name, fsyncs and renames. Lightning's own CheckpointIO can leave a torn file behind."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path, content = Path(path), BytesIO()
        torch.save(checkpoint, content)
        with replacing(path) as part:
            part.write_bytes(content.getbuffer())  # Python's error says that a disk is full, torch's does not
            if path.exists():
                _keep(path)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        return torch.load(path, map_location=map_location or "cpu", weights_only=True)

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)


def begin_next_epoch(checkpoint: dict[str, Any]) -> None:
    """Sets the loops of a checkpoint that was saved at the end of an epoch before the next one.

    Lightning takes that end for the middle of the epoch: unless a validation was due, it would make one more step in that
    epoch, and call training_step without a batch in the next.
    """
    fit = checkpoint["loops"]["fit_loop"]
    batches, epochs = fit["epoch_loop.batch_progress"], fit["epoch_progress"]
    # A checkpoint of on_train_batch_end has not completed its batch yet.
    if batches["is_last_batch"] and batches["current"]["completed"] == batches["current"]["processed"]:
        batches.update(is_last_batch=False, current=dict.fromkeys(batches["current"], 0))
        for counts in epochs.values():
            counts.update(dict.fromkeys(counts, counts["completed"] + 1))


def _keep(path: Path) -> None:
    """Gives the present checkpoint a second name, which it keeps when the next one takes the first."""
    previous = path.with_name(PREVIOUS)
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # a file system without hard links
        os.replace(path, previous)


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
