"""Members of a folder, tar or zip, read where they lie: nothing is unpacked, no link followed, no name trusted.

Members are found once and then read in any order and from several threads, so that a data set's order never depends
on its archive's. A gzipped tar has no random access: it is decompressed once into a temporary file without a name,
which the system frees when the container is closed, however the process ends.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Self

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".zip")
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError)


class Member(NamedTuple):
    """A plain file inside a container."""

    container: Container
    name: str  # relative, parts separated by /
    place: int  # tar: offset of the first byte; zip: position in the directory; folder: 0
    size: int  # bytes

    def read(self) -> bytes:
        """The member's bytes; safe to call from several threads.

        Raises:
            ValueError: the archive is damaged there.
        """
        return self.container.read(self)


class Container:
    """A folder or archive; closed at the end of a `with` block."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees what reading needs; members cannot be read any more."""

    def members(self) -> Iterator[Member]:
        """Every plain file.

        Raises:
            ValueError: a damaged archive; a link, a device, an encrypted file or an unsafe name in it.
        """
        raise NotImplementedError

    def read(self, member: Member) -> bytes:
        raise NotImplementedError


def open_container(path: Path, scratch: Path, only: tuple[str, ...] = ()) -> Container:
    """The folder or archive at `path`.

    Args:
        scratch: folder for the decompressed copy of a gzipped tar.
        only: sub-folders of a folder to look into, where they exist; none means all.
    Raises:
        FileNotFoundError: nothing is there.
        ValueError: neither a folder nor a .tar, .tgz, .tar.gz or .zip archive, or a damaged one.
    """
    if path.is_dir():
        return Folder(path, only)
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; it should be a folder or one of {', '.join(SUFFIXES)}")
    if not path.name.lower().endswith(SUFFIXES):
        raise ValueError(f"{path} is neither a folder nor an archive to read; archives end in {', '.join(SUFFIXES)}")
    return Zip(path) if path.name.lower().endswith(".zip") else Tar(path, scratch)


class Folder(Container):
    """Files below a folder, sorted by name within theirs; its owner's symbolic links are followed."""

    def __init__(self, path: Path, only: tuple[str, ...] = ()) -> None:
        super().__init__(path)
        self._tops = [path / top for top in only if (path / top).is_dir()] if only else [path]

    def members(self) -> Iterator[Member]:
        for top in self._tops:
            for place, folders, files in os.walk(top, followlinks=True, onerror=_raise):
                folders.sort()
                prefix = Path(place).relative_to(self.path).as_posix() + "/"
                for file in sorted(files):
                    size = os.stat(os.path.join(place, file)).st_size
                    yield Member(self, (prefix + file).removeprefix("./"), 0, size)

    def read(self, member: Member) -> bytes:
        return (self.path / member.name).read_bytes()


class Tar(Container):
    """A tar, gzipped or not, in its own order."""

    def __init__(self, path: Path, scratch: Path) -> None:
        super().__init__(path)
        file: IO[bytes] = path.open("rb")
        if file.read(2) == b"\x1f\x8b":
            with file, _damage_named(path):
                file = _gunzipped(path, scratch)
        self._file = file

    def close(self) -> None:
        self._file.close()

    def members(self) -> Iterator[Member]:
        return self._scan(0, os.fstat(self._file.fileno()).st_size)

    def inside(self, member: Member) -> Iterator[Member]:
        """Members of the uncompressed tar that is itself a member of this one."""
        return self._scan(member.place, member.size)

    def read(self, member: Member) -> bytes:
        found = os.pread(self._file.fileno(), member.size, member.place)
        if len(found) != member.size:
            raise ValueError(f"{self.path} ends within {member.name}; copy or download it again")
        return found

    def _scan(self, start: int, size: int) -> Iterator[Member]:
        window = io.BufferedReader(_Window(self._file.fileno(), start, size))
        with _damage_named(self.path), tarfile.open(fileobj=window, mode="r:") as archive:
            while (found := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # or a million of them would stay in memory
                name = _safe(found.name, self.path)
                if found.isdir():
                    continue
                if not found.isreg() or found.issparse():
                    raise ValueError(f"{name} in {self.path} is a link or a device; pack plain files instead")
                yield Member(self, name, start + found.offset_data, found.size)
            # tarfile takes a broken header for the end; the real one is a block of zeros.
            window.seek(archive.offset)
            if window.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end mark at byte {start + archive.offset}")


class Zip(Container):
    """A zip in its own order."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._file = path.open("rb")
        with _damage_named(path):
            self._archive = zipfile.ZipFile(self._file)
        self._directory = self._archive.infolist()

    def close(self) -> None:
        self._archive.close()
        self._file.close()

    def members(self) -> Iterator[Member]:
        for place, found in enumerate(self._directory):
            name = _safe(found.filename, self.path)
            if found.is_dir():
                continue
            kind = stat.S_IFMT(found.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or found.flag_bits & 1:
                raise ValueError(f"{name} in {self.path} is a link, a device or encrypted; pack plain files instead")
            yield Member(self, name, place, found.file_size)

    def read(self, member: Member) -> bytes:
        with _damage_named(self.path):
            return self._archive.read(self._directory[member.place])


class _Window(io.RawIOBase):
    """Bytes [start, start + size) of a file as a file of their own, read without moving the file's position."""

    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size, self._at = descriptor, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        wanted = max(0, min(len(buffer), self._size - self._at))
        found = os.pread(self._descriptor, wanted, self._start + self._at)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def _raise(error: OSError) -> None:
    raise error


@contextlib.contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    """Turns what the archive libraries raise on damage into a ValueError that names the file."""
    try:
        yield
    except _DAMAGE as error:
        raise ValueError(f"{path} is damaged or cut short ({error}); copy or download it again") from None


def _gunzipped(path: Path, scratch: Path) -> IO[bytes]:
    scratch.mkdir(parents=True, exist_ok=True)
    plain = tempfile.TemporaryFile(dir=scratch)  # noqa: SIM115 (the container closes it)
    try:
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, plain, 1 << 20)
        plain.flush()
    except BaseException:
        plain.close()
        raise
    return plain


def _safe(name: str, path: Path) -> str:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
        raise ValueError(f"{name!r} in {path} points outside the archive; it is not read: get the archive elsewhere")
    return "/".join(part for part in parts if part not in ("", "."))
