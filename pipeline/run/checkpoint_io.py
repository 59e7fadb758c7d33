"""How Lightning writes and reads checkpoints. Apart from `checkpoint`, which needs no Lightning."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning_fabric.plugins import CheckpointIO

from pipeline.run.checkpoint import save


class AtomicCheckpointIO(CheckpointIO):
    """Saves as `checkpoint.save` does: Lightning's own CheckpointIO can leave a torn file behind.

    Args:
        require: see `checkpoint.save`.
    """

    def __init__(self, require: Callable[[], object] = lambda: None) -> None:
        self._require = require

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        save(checkpoint, Path(path), self._require)

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
