"""Checkpoints that are whole or absent, and the folder that one run owns."""

from __future__ import annotations

import fcntl
import json
import os
import pickle
import socket
import time
from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

import torch

from pipeline.atomic import replacing
from pipeline.config import Config

LAST, BEST = "last.ckpt", "best.safetensors"


def snapshot_name(step: int) -> str:
    """File of the weights that a cycle of the learning rate left behind."""
    return f"snapshot-{step}.safetensors"


def resumable(folder: Path, key: str) -> Path | None:
    """The run's last checkpoint, or None before the first.

    Raises:
        ValueError: the checkpoint belongs to another run, or is damaged.
    """
    path = folder / LAST
    if not path.exists():
        return None
    try:
        found = torch.load(path, map_location="cpu", weights_only=True, mmap=True).get("run_key")
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read ({reason}); remove it to start this run afresh") from None
    if found != key:
        raise ValueError(f"{path} belongs to run {found}, not {key}; remove {folder} and start again")
    return path


def described(
    config: Config, content_hash: str, num_classes: int, in_channels: int, seen: Collection[str] = ()
) -> dict[str, Any]:
    """What weights are saved with, so that they can be read without the configuration.

    Args:
        seen: content hashes of data sets whose validation images the weights that this starts from were trained on.
    """
    return {
        "model": {**asdict(config.model), "num_classes": num_classes, "in_channels": in_channels},
        "normalize": config.recipe.normalize,
        "augment": asdict(config.recipe.augment),
        "split": config.data.split,
        "data": content_hash,
        "num_train": config.data.num_train,
        "seen": sorted({*seen, *([content_hash] if config.data.split == "full" else [])}),
    }


def save_weights(model: torch.nn.Module, path: Path, metadata: dict[str, Any]) -> None:
    """Weights as safetensors with JSON `metadata` in its header (the model's constructor arguments, step, error)."""
    from safetensors.torch import save_file

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path) as part:
        save_file(weights, part, metadata={"pipeline": json.dumps(metadata)})


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """State dict and metadata that `save_weights` wrote.

    Raises:
        ValueError: a damaged file, or one without this project's metadata.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stream:
            metadata = (stream.metadata() or {}).get("pipeline")
            if metadata is None:
                raise ValueError(f"{path} was not written by this project: its header names no model")
            return {name: stream.get_tensor(name) for name in stream.keys()}, json.loads(metadata)  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read ({error}); remove it, the run makes or fetches it again") from None


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
