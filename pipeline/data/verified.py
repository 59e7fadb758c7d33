"""A store's files are read as preprocess wrote them: each is compared with the manifest's sha256 before its first use.

A process hashes a small file itself, in a fraction of a second. Hashing ImageNet's shards takes minutes, so one process of a
machine hashes its large files, each once, and a note in the user's cache folder keeps the file's size, inode and time of change.
A change that leaves these as they are (a failing disk) is noticed once the note is removed.
"""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

from pipeline.atomic import read_if_whole, sha256, user_cache, write_json
from pipeline.errors import DamagedError, hint
from pipeline.progress import progress

LARGE = 256 << 20  # bytes

_verified: dict[str, str] = {}  # sha256 by state of a file, in this process


def verify(folder: Path, digests: Mapping[str, str], large: int = LARGE) -> None:
    """Compares files with their sha256, those that this process, or for large ones this machine, has not compared yet.

    Args:
        digests: sha256 by name of a file in `folder`.
        large: size of a large file in bytes.
    Raises:
        DamagedError: a file differs.
    """
    states = {name: _state(folder / name) for name in digests}
    left = [name for name in digests if _verified.get(states[name]) != digests[name]]
    big = {name for name in left if (folder / name).stat().st_size >= large}
    with _alone() if big else nullcontext():
        notes = read_if_whole(notes_file()) if big else {}
        left = [name for name in left if name not in big or notes.get(states[name]) != digests[name]]
        bar = progress(f"checking {folder}", len(left), "files") if big & {*left} else nullcontext()
        with ThreadPoolExecutor() as pool, bar as shown:
            for name, actual in zip(left, pool.map(lambda name: sha256(folder / name), left), strict=True):
                if actual != digests[name]:
                    raise DamagedError(f"{folder / name} is not as preprocess wrote it; run {hint('preprocess')}")
                if name in big:
                    _note({states[name]: actual})
                if shown is not None:
                    shown.advance()
    _verified.update({states[name]: digests[name] for name in digests})


def mark(folder: Path, digests: Mapping[str, str], large: int = LARGE) -> None:
    """Notes files as verified that were compared with their sha256 before they were moved here; see `verify`."""
    states = {_state(folder / name): digest for name, digest in digests.items()}
    _verified.update(states)
    if any((folder / name).stat().st_size >= large for name in digests):
        with _alone():
            _note(states)


def notes_file() -> Path:
    """Where what was verified is kept."""
    return user_cache() / "verified.json"


@contextmanager
def _alone() -> Iterator[None]:
    """For the block, no other process of this machine reads or writes notes, if the cache folder takes locks."""
    with ExitStack() as open_:
        with suppress(OSError):
            user_cache().mkdir(parents=True, exist_ok=True)
            # Machines that share a home have files of their own to hash.
            path = user_cache() / f"verified.{socket.gethostname()}.lock"
            fcntl.flock(open_.enter_context(path.open("wb")), fcntl.LOCK_EX)
        yield


def _note(verified: Mapping[str, str]) -> None:
    with suppress(OSError):  # without a note, the files are hashed again next time
        write_json(notes_file(), {**read_if_whole(notes_file()), **verified})


def _state(path: Path) -> str:
    """Changes whenever the file is written through the file system."""
    status = path.stat()
    return f"{path} {status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"
