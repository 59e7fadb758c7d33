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


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is fsynced and renamed to `path`, on error removed.

    The block may make a file or a folder there. What stood at `path` stays until the rename.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    part = path.parent / f".{path.name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part"
    try:
        yield part
        if part.is_dir():
            if path.exists():
                shutil.rmtree(path)
        else:
            _fsync(part)
        os.replace(part, path)
        _fsync(path.parent)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Removes what processes of this machine that are gone left unfinished for `path`."""
    for part in path.parent.glob(f".{path.name}.{socket.gethostname()}.*.part"):
        pid = part.name.split(".")[-3]
        if pid.isdigit() and not Path(f"/proc/{pid}").exists():
            shutil.rmtree(part) if part.is_dir() else part.unlink(missing_ok=True)


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
