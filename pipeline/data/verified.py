"""A store's files are read as preprocess wrote them: each is compared with the manifest's sha256 before its first use.

A process hashes a small file itself, in a fraction of a second. Hashing ImageNet's shards takes minutes, so a large file is
hashed once on a machine, and a note in the user's cache folder keeps its size, inode and time of change. A change that
leaves these as they are (a failing disk) is noticed once the note is removed.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
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
    if big:
        notes = read_if_whole(notes_file())
        left = [name for name in left if name not in big or notes.get(states[name]) != digests[name]]
    title = f"checking {folder}"
    with ThreadPoolExecutor() as pool, progress(title, len(left), "files") if big & {*left} else nullcontext() as bar:
        for name, actual in zip(left, pool.map(lambda name: sha256(folder / name), left), strict=True):
            if actual != digests[name]:
                raise DamagedError(f"{folder / name} is not as preprocess wrote it; run {hint('preprocess')}")
            if bar is not None:
                bar.advance()
    _verified.update({states[name]: digests[name] for name in digests})
    if big & {*left}:
        with suppress(OSError):  # without a note, the files are hashed again next time
            noted = {states[name]: digests[name] for name in big}
            write_json(notes_file(), {**read_if_whole(notes_file()), **noted})


def notes_file() -> Path:
    """Where what was verified is kept."""
    return user_cache() / "verified.json"


def _state(path: Path) -> str:
    """Changes whenever the file is written through the file system."""
    status = path.stat()
    return f"{path} {status.st_size} {status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"
