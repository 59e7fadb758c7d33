"""Checkpoints that are whole or absent; rank zero's disk has them, whatever the other ranks' disks have."""

from __future__ import annotations

import os
import sys
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
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
            content = whole(path)
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


def whole(path: Path) -> dict[str, Any]:
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
    """Writes beside the final name, fsyncs and renames. Lightning's own CheckpointIO can leave a torn file behind.

    Args:
        require: called before a checkpoint takes its name; may raise to prevent it.
    """

    def __init__(self, require: Callable[[], object] = lambda: None) -> None:
        self._require = require

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path, content = Path(path), BytesIO()
        torch.save(checkpoint, content)
        with replacing(path, self._require) as part:
            part.write_bytes(content.getbuffer())  # Python's error says that a disk is full, torch's does not
            if path.exists():
                self._require()
                _keep(path)

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Every rank calls it and gets rank zero's checkpoint: the others need not see its folder."""
        where = map_location or "cpu"
        if not dist.is_initialized():
            return torch.load(path, map_location=where, weights_only=True)
        content = [Path(path).read_bytes() if dist.get_rank() == 0 else None]
        dist.broadcast_object_list(content)
        return torch.load(BytesIO(content[0] or b""), map_location=where, weights_only=True)

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
