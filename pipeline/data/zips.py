"""Zips, their directory checked before it is believed."""

from __future__ import annotations

import contextlib
import errno
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import LimitsConfig
from pipeline.data.archives import LONGEST_NAME, Container, Entry
from pipeline.errors import PipelineError, printable

_LOCAL_HEADER = 30  # bytes
_UTF8 = 0x800  # the flag of a name in UTF-8
_UNREAD_FLAGS = 0x1 | 0x20 | 0x40 | 0x2000  # encrypted, a patch, strongly encrypted, directory encrypted
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError, IndexError)


class Zip(Container):
    """A zip whose files are stored or deflated; entries come in the archive's order."""

    def __init__(self, path: Path, limits: LimitsConfig) -> None:
        super().__init__(path, limits)
        with path.open("rb") as file, self._naming():
            # The record at the end; zipfile has no public function that reads it before it loads the directory.
            end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end is None:
            raise self._damaged("no directory at its end")
        number, size = end[4], end[5]
        self.require_entries(number)
        if size > (number + 1) * 2 * LONGEST_NAME:
            raise self._damaged(f"a directory of {size:,} bytes for {number:,} files")
        with self._naming():
            self._archive = zipfile.ZipFile(path)
        self._directory = self._archive.infolist()
        # Writers without zip64 state the number modulo 65536.
        if len(self._directory) % 65536 != number % 65536:
            self.close()
            raise self._damaged(f"its directory lists {len(self._directory):,} files instead of {number:,}")

    def close(self) -> None:
        self._archive.close()

    def listed(self) -> Iterator[Entry]:
        self._require_whole()
        total = 0
        for place, info in enumerate(self._directory):
            name = self.safe(_name(info))
            if info.filename.endswith("/"):  # Python 3.11's is_dir() fails on an empty name
                self.keep_folder(name)
                continue
            if not name:
                raise self._damaged("a file without a name")
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG) or info.flag_bits & _UNREAD_FLAGS:
                raise PipelineError(
                    f"{printable(name)} in {self.path} is a link, a device or encrypted; pack plain files instead"
                )
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise PipelineError(
                    f"{printable(name)} in {self.path} is compressed by method {info.compress_type}; store or deflate it "
                    "(methods 0 and 8) instead"
                )
            total += info.file_size
            yield Entry(self, name, place, info.file_size)
        self.require_ratio(total, self.path.stat().st_size)

    def _require_whole(self) -> None:
        """Every file has bytes of its own, from the first byte on; otherwise another archive stands before this one."""
        at = 0
        for info in sorted(self._directory, key=lambda info: info.header_offset):
            if info.header_offset < at:
                raise self._damaged(f"{printable(_name(info))} overlaps another file")
            if at == 0 < info.header_offset:
                raise PipelineError(
                    f"{self.path} starts with {info.header_offset:,} bytes that its directory does not list: archives were "
                    "joined, or it is a program; unpack it, look what is there, and pack it anew"
                )
            at = info.header_offset + _LOCAL_HEADER + info.compress_size

    def read(self, entry: Entry) -> bytes:
        info = self._directory[entry.place]
        with self._naming(), self._archive.open(info) as file:
            content = file.read(entry.size)  # no more is unpacked, whatever the stream holds
            if len(content) == entry.size and not file.read(1):  # which compares the checksum
                return content
        raise self._damaged(f"{printable(entry.name)} has another size than the directory says")

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Turns zipfile's errors on damage, which are of many kinds, into a PipelineError that names the file."""
        try:
            yield
        except PipelineError:
            raise
        except (*_DAMAGE, struct.error) as error:
            raise self._damaged(printable(error)) from None
        except OSError as error:
            if error.errno not in (None, errno.EINVAL):  # EINVAL: a position before the start
                raise
            raise self._damaged(printable(error)) from None

    def _damaged(self, reason: str) -> PipelineError:
        return PipelineError(f"{self.path} is damaged or cut short ({reason}); copy or download it again")


def _name(info: zipfile.ZipInfo) -> str:
    """Without the flag, zipfile takes a name for code page 437, but Info-ZIP's `zip` writes UTF-8 without it."""
    if not info.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode()
    return info.filename
