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

from pipeline.atomic import replacing
from pipeline.errors import DamagedError, MissingError, PipelineError, first_line, printable
from pipeline.run import LAST, PREVIOUS
from pipeline.run.weights import BEST, load_weights


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
        if damage:
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
        raise DamagedError(f"{path} is damaged ({first_line(error)})") from None


def save(content: dict[str, Any], path: Path, require: Callable[[], object] = lambda: None) -> None:
    """Writes beside the final name, fsyncs and renames; the checkpoint that had the name becomes PREVIOUS.

    Args:
        require: called before the checkpoint takes its name; may raise to prevent it.
    """
    saved = BytesIO()
    torch.save(content, saved)
    with replacing(path, require) as part:
        part.write_bytes(saved.getbuffer())  # Python's error says that a disk is full, torch's does not
        if path.exists():
            require()
            _keep(path)


def _require_best(path: Path, remedy: str) -> None:
    """Raises PipelineError unless the weights that the checkpoint counts on are whole: it cannot make them again."""
    try:
        load_weights(path, remedy)
    except FileNotFoundError:
        raise MissingError(f"{path} is missing, the best weights so far; {remedy}") from None


def _keep(path: Path) -> None:
    """Gives the present checkpoint a second name, which it keeps when the next one takes the first."""
    previous = path.with_name(PREVIOUS)
    previous.unlink(missing_ok=True)
    try:
        os.link(path, previous)
    except OSError:  # a file system without hard links
        os.replace(path, previous)
