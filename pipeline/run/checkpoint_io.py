"""Lightning's checkpoints, written whole or not at all; apart from checkpoint.py, whose readers need no Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import CheckpointIO

from pipeline.atomic import replacing


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
