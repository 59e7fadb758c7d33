"""Entries of a folder, tar or zip, read in place: nothing is unpacked, and links and unsafe names are refused.

Entries are listed once and then read in any order by several threads, so that the order of a data set does not depend on
its archive. A gzipped tar has no random access: it is decompressed once into a temporary file without a name, which the
system frees when the container is closed, however the process ends.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Self

from pipeline.errors import MissingError, PipelineError

SUFFIXES = (".tar", ".tgz", ".tar.gz", ".zip")
_DAMAGE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, gzip.BadGzipFile, EOFError)


class Entry(NamedTuple):
    """A plain file inside a container."""

    container: Container
    name: str  # relative, parts separated by /
    place: int  # tar: offset of the first byte; zip: position in the directory; folder: 0
    size: int  # bytes

    def read(self) -> bytes:
        """The entry's bytes; several threads may call this.

        Raises:
            PipelineError: the archive is damaged there.
        """
        return self.container.read(self)


class Container(ABC):
    """A folder or archive; its entries can be read until the `with` block ends."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes what the container holds open; a folder holds nothing."""
        return

    @abstractmethod
    def entries(self) -> Iterator[Entry]:
        """Every plain file.

        Raises:
            PipelineError: the archive is damaged, or holds a link, a device, an encrypted file or an unsafe name.
        """

    @abstractmethod
    def read(self, entry: Entry) -> bytes:
        """See `Entry.read`."""


def open_container(path: Path, scratch: Path, only: tuple[str, ...] = ()) -> Container:
    """The folder or archive at `path`.

    Args:
        scratch: folder for the decompressed copy of a gzipped tar.
        only: the sub-folders of a folder to list, where they exist; () for all.
    Raises:
        MissingError: `path` does not exist.
        PipelineError: neither a folder nor a .tar, .tgz, .tar.gz or .zip archive, or a damaged archive.
    """
    if path.is_dir():
        return Folder(path, only)
    if not path.is_file():
        raise MissingError(f"{path} does not exist; it should be a folder or one of {', '.join(SUFFIXES)}")
    if not path.name.lower().endswith(SUFFIXES):
        raise PipelineError(
            f"{path} is neither a folder nor a supported archive; archives end in {', '.join(SUFFIXES)}"
        )
    return Zip(path) if path.name.lower().endswith(".zip") else Tar(path, scratch)


class Folder(Container):
    """Files below a folder, sorted by name within each folder; symbolic links are followed, since the user made them."""

    def __init__(self, path: Path, only: tuple[str, ...] = ()) -> None:
        super().__init__(path)
        self._tops = [path / top for top in only if (path / top).is_dir()] if only else [path]

    def entries(self) -> Iterator[Entry]:
        for top in self._tops:
            for place, folders, files in os.walk(top, followlinks=True, onerror=_raise):
                folders.sort()
                prefix = Path(place).relative_to(self.path).as_posix() + "/"
                for file in sorted(files):  # strings: ImageNet has 1.3 million of them
                    size = os.stat(os.path.join(place, file)).st_size
                    yield Entry(self, (prefix + file).removeprefix("./"), 0, size)

    def read(self, entry: Entry) -> bytes:
        return (self.path / entry.name).read_bytes()


class Tar(Container):
    """A tar, gzipped or not; entries come in the archive's order."""

    def __init__(self, path: Path, scratch: Path) -> None:
        super().__init__(path)
        file: IO[bytes] = path.open("rb")
        if file.read(2) == b"\x1f\x8b":
            with file, _naming(path):
                file = _gunzipped(path, scratch)
        self._file = file

    def close(self) -> None:
        self._file.close()

    def entries(self) -> Iterator[Entry]:
        return self._scan(0, os.fstat(self._file.fileno()).st_size)

    def inside(self, entry: Entry) -> Iterator[Entry]:
        """Entries of the uncompressed tar that is itself an entry of this one."""
        return self._scan(entry.place, entry.size)

    def read(self, entry: Entry) -> bytes:
        content = os.pread(self._file.fileno(), entry.size, entry.place)
        if len(content) != entry.size:
            raise PipelineError(f"{self.path} ends within {entry.name}; copy or download it again")
        return content

    def _scan(self, start: int, size: int) -> Iterator[Entry]:
        """Entries of the tar in bytes [start, start + size). tarfile seeks before each header, so scans may nest."""
        self._file.seek(start)
        with _naming(self.path), tarfile.open(fileobj=self._file, mode="r:") as archive:
            while (info := archive.next()) is not None:
                archive.members.clear()  # type: ignore[attr-defined]  # ImageNet's million would stay in memory
                name = _safe(info.name, self.path)
                if info.isdir():
                    continue
                if not info.isreg() or info.issparse():
                    raise PipelineError(f"{name} in {self.path} is a link or a device; pack plain files instead")
                if info.offset_data + info.size > start + size:
                    raise tarfile.ReadError(f"{name} does not end before byte {start + size}")
                yield Entry(self, name, info.offset_data, info.size)
            # tarfile takes a broken header for the end of the archive, which is a block of zeros.
            self._file.seek(archive.offset)
            if self._file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError(f"no end mark at byte {archive.offset}")


class Zip(Container):
    """A zip; entries come in the archive's order."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        with _naming(path):
            self._archive = zipfile.ZipFile(path)
        self._directory = self._archive.infolist()

    def close(self) -> None:
        self._archive.close()

    def entries(self) -> Iterator[Entry]:
        for place, info in enumerate(self._directory):
            name = _safe(info.filename, self.path)
            if info.is_dir():
                continue
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or info.flag_bits & 1:
                raise PipelineError(f"{name} in {self.path} is a link, a device or encrypted; pack plain files instead")
            yield Entry(self, name, place, info.file_size)

    def read(self, entry: Entry) -> bytes:
        with _naming(self.path):
            return self._archive.read(self._directory[entry.place])


def _raise(error: OSError) -> None:
    raise error


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Turns the archive libraries' errors on damage into a PipelineError that names the file."""
    try:
        yield
    except _DAMAGE as error:
        raise PipelineError(f"{path} is damaged or cut short ({error}); copy or download it again") from None


def _gunzipped(path: Path, scratch: Path) -> IO[bytes]:
    scratch.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as on_error:
        plain = on_error.enter_context(tempfile.TemporaryFile(dir=scratch))
        with gzip.open(path) as packed:
            shutil.copyfileobj(packed, plain, 1 << 20)
        plain.flush()
        on_error.pop_all()  # the container closes it
    return plain


def _safe(name: str, path: Path) -> str:
    parts = name.replace("\\", "/").split("/")
    if name.startswith(("/", "\\")) or ".." in parts or name[1:2] == ":":
        raise PipelineError(f"{name!r} in {path} points outside the archive; get the archive from another source")
    return "/".join(part for part in parts if part not in ("", "."))
