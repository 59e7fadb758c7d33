"""Tars, gzipped or not, read to their last byte: what follows the end mark is refused, not dropped.

`tarfile` parses one header; the walk from header to header is our own, since tarfile takes a zeroed header for the end,
and follows chains of extended headers without a bound.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from pipeline.config import LimitsConfig
from pipeline.data.archives import Container, Entry
from pipeline.errors import PipelineError, printable

BLOCK = tarfile.BLOCKSIZE
CHUNK = 1 << 20  # bytes
EXTENDED = 1 << 17  # bytes of all extended headers of one entry; a path takes at most 4,096
_OTHERS = {
    b"BZh": "compressed by bzip2",
    b"\xfd7zXZ": "compressed by xz",
    b"(\xb5/\xfd": "compressed by zstd",
    b"PK": "a zip, despite its name",
}
_LONG_NAME, _LONG_LINK = tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK
_PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)


class Tar(Container):
    """A tar; entries come in the archive's order.

    A gzipped tar has no random access: it is decompressed once into a temporary file without a name, which the system frees
    when the container is closed, however the process ends.
    """

    def __init__(self, path: Path, limits: LimitsConfig, scratch: Path) -> None:
        super().__init__(path, limits)
        with contextlib.ExitStack() as on_error:
            self._file: IO[bytes] = on_error.enter_context(path.open("rb"))
            magic = self._file.read(5)
            for start, what in _OTHERS.items():
                if magic.startswith(start):
                    raise PipelineError(f"{path} is {what}; pack it as .tar or .tgz instead")
            if magic.startswith(b"\x1f\x8b"):
                self._file = on_error.enter_context(self._gunzipped(scratch))
            self._size = os.fstat(self._file.fileno()).st_size
            self.require_total(self._size)
            self._open = on_error.pop_all()

    def close(self) -> None:
        self._open.close()

    def listed(self) -> Iterator[Entry]:
        return self._scan(0, self._size)

    def inside(self, entry: Entry) -> Iterator[Entry]:
        """Entries of the uncompressed tar that is itself an entry of this one."""
        return self.within_limits(self._scan(entry.place, entry.place + entry.size))

    def read(self, entry: Entry) -> bytes:
        content = os.pread(self._file.fileno(), entry.size, entry.place)
        if len(content) != entry.size:
            raise self._damaged(f"it ends within {printable(entry.name)}")
        return content

    def _scan(self, at: int, end: int) -> Iterator[Entry]:
        """Entries of the tar in bytes [at, end)."""
        while (block := self._bytes(at, BLOCK, end)) != bytes(BLOCK):
            info, at = self._header(block, at, end)
            name = self.safe(info.name)
            if info.isdir():
                self.keep_folder(name)
                continue
            if not name:
                raise self._damaged("a file without a name")
            if info.type not in (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE):
                raise PipelineError(
                    f"{printable(name)} in {self.path} is a link or a device, or sparse; pack plain files instead"
                )
            if at + info.size > end:
                raise self._damaged(f"{printable(name)} does not end before byte {end:,}")
            yield Entry(self, name, at, info.size)
            at += _padded(info.size)
        for rest in range(at, end, CHUNK):
            if os.pread(self._file.fileno(), min(CHUNK, end - rest), rest).strip(b"\0"):
                raise PipelineError(
                    f"{self.path} goes on after its end mark at byte {at:,}: several archives were joined, or a header is "
                    "lost; unpack all of it (tar --ignore-zeros), look what is there, and pack it anew"
                )

    def _header(self, block: bytes, at: int, end: int) -> tuple[tarfile.TarInfo, int]:
        """The entry whose first header is `block` at byte `at`, and where its content starts; name and size are final."""
        fields: dict[str, str] = {}
        limit = at + EXTENDED
        while True:
            try:
                info = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                raise self._damaged(f"no header at byte {at:,}: {error}") from None
            at += BLOCK
            if info.size < 0 or at > limit:
                raise self._damaged(f"an impossible header at byte {at - BLOCK:,}")
            if info.type not in (_LONG_NAME, _LONG_LINK, *_PAX, tarfile.XGLTYPE):
                break
            if at + info.size > limit:
                raise self._damaged(f"extended headers of more than {EXTENDED:,} bytes at byte {at:,}")
            content = self._bytes(at, info.size, end)
            at += _padded(info.size)
            if info.type == _LONG_NAME:
                fields["path"] = content.split(b"\0")[0].decode("utf-8", "surrogateescape")
            elif info.type in _PAX:
                fields |= self._pax(content, at)
            elif info.type == tarfile.XGLTYPE and not {"path", "size"}.isdisjoint(self._pax(content, at)):
                raise self._damaged(f"a global header before byte {at:,} renames all that follows")
            block = self._bytes(at, BLOCK, end)
        info.name = fields.get("path", info.name)
        if "size" in fields:
            if not fields["size"].isdecimal() or len(fields["size"]) > 15:
                raise self._damaged(f"an impossible size before byte {at:,}")
            info.size = int(fields["size"])
        if any(key.startswith("GNU.sparse.") for key in fields):
            info.type = tarfile.GNUTYPE_SPARSE
        return info, at

    def _pax(self, content: bytes, at: int) -> dict[str, str]:
        """Keys and values of a pax header, which is a sequence of `length key=value\\n`."""
        fields, start = {}, 0
        content = content.rstrip(b"\0")
        while start < len(content):
            digits = content[start : start + 8].partition(b" ")[0]
            length = int(digits) if digits.isdigit() else 0
            key, equals, value = content[start + len(digits) + 1 : start + length].partition(b"=")
            if length <= len(digits) or start + length > len(content) or not equals or not value.endswith(b"\n"):
                raise self._damaged(f"a broken extended header before byte {at:,}")
            fields[key.decode("utf-8", "surrogateescape")] = value[:-1].decode("utf-8", "surrogateescape")
            start += length
        return fields

    def _bytes(self, at: int, size: int, end: int) -> bytes:
        content = os.pread(self._file.fileno(), size, at) if at + size <= end else b""
        if len(content) != size:
            raise self._damaged(f"no end mark at byte {at:,}")
        return content

    def _damaged(self, reason: str) -> PipelineError:
        return PipelineError(f"{self.path} is damaged or cut short ({reason}); copy or download it again")

    @contextlib.contextmanager
    def _gunzipped(self, scratch: Path) -> Iterator[IO[bytes]]:
        scratch.mkdir(parents=True, exist_ok=True)
        packed = os.fstat(self._file.fileno()).st_size
        self._file.seek(0)
        with tempfile.TemporaryFile(dir=scratch) as plain:
            try:
                with self._file, gzip.open(self._file) as unpacked:
                    while chunk := unpacked.read(CHUNK):
                        self.require_total(plain.tell() + len(chunk))
                        self.require_ratio(plain.tell() + len(chunk), packed)
                        plain.write(chunk)
            except (gzip.BadGzipFile, zlib.error, EOFError) as error:
                raise self._damaged(printable(error)) from None
            plain.flush()
            yield plain


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK
