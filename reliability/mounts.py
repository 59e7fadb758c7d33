"""A small file system of one's own, seen by this process and its children alone: to fill it, or to make it read-only."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 16384, 1 << 18
BLOCK = 64 * 1024
_libc = ctypes.CDLL(None, use_errno=True)


def own_mounts() -> None:
    """Gives this process, which must have one thread, a mount namespace; without root, a user namespace as well.

    Raises:
        OSError: the kernel permits neither.
    """
    user, group = os.getuid(), os.getgid()
    if user:
        _check(_libc.unshare(CLONE_NEWUSER | CLONE_NEWNS))
        Path("/proc/self/setgroups").write_text("deny", encoding="utf-8")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1", encoding="utf-8")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1", encoding="utf-8")
    else:
        _check(_libc.unshare(CLONE_NEWNS))
    _check(_libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))


def mount(folder: Path, size: int) -> None:
    """An empty file system of `size` bytes on `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    _check(_libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, f"size={size}".encode()))


def set_read_only(folder: Path, read_only: bool) -> None:
    _check(_libc.mount(None, os.fsencode(folder), None, MS_REMOUNT | (MS_RDONLY if read_only else 0), None))


def free_bytes(folder: Path) -> int:
    facts = os.statvfs(folder)
    return facts.f_bavail * facts.f_frsize


def fill(folder: Path, left: int) -> Path:
    """A file that leaves `left` bytes free in the file system of `folder`."""
    path = folder / "filler"
    with path.open("wb") as stream:
        while (missing := free_bytes(folder) - left) > 0:
            stream.write(bytes(min(missing, BLOCK)))
            stream.flush()
    return path


def _check(status: int) -> None:
    if status:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
