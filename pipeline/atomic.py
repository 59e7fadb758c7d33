"""Files and folders that appear whole or not at all: written under a temporary name, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ASIDE = ".old"  # suffix of an old folder while a new one takes its place


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`, for a file or a folder; fsyncs and renames it on success, removes it on error.

    The old `path` stays until the rename. A rename cannot replace a folder, so an old folder is set aside for a moment; if
    the process is killed just then, the next call puts it back.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    part = path.parent / f".{path.name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part"
    aside = part.with_suffix(ASIDE)
    try:
        yield part
        for written in [*part.rglob("*"), part] if part.is_dir() else [part]:
            if not written.is_symlink():
                _fsync(written)
        if part.is_dir() and os.path.lexists(path):
            os.replace(path, aside)
        os.replace(part, path)
        _fsync(path.parent)
    finally:
        _put_back(aside, path)
        _remove(part)


def _sweep(path: Path) -> None:
    """Removes unfinished files for `path` whose process, on this machine, has ended."""
    for unfinished in path.parent.glob(f".{path.name}.{socket.gethostname()}.*"):
        *_, pid, _, suffix = unfinished.name.split(".")
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            if suffix == ASIDE[1:]:
                _put_back(unfinished, path)
            elif suffix == "part":
                _remove(unfinished)


def _put_back(aside: Path, path: Path) -> None:
    """Restores the old folder if nothing replaced it, and deletes it otherwise."""
    if os.path.lexists(aside) and not os.path.lexists(path):
        os.replace(aside, path)
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, value: Any) -> None:
    """`value` as indented JSON; NaN and infinity are refused (ValueError), since JSON has neither."""
    text = json.dumps(value, indent=2, allow_nan=False)
    with replacing(path) as part:
        part.write_text(text + "\n")


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text())


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
