"""A store of objects by URL: s3://, gs://, file://, and whatever else pyarrow or an installed fsspec reads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.atomic import replacing
from pipeline.credentials import redacted
from pipeline.errors import PipelineError, first_line, printable

T = TypeVar("T")
PATIENCE_S = 60.0  # for a store that errs or does not answer
PAUSES_S = (0.2, 5.0)  # between attempts: the first, and the longest
BLOCK = 1 << 20


class MissingObject(FileNotFoundError):  # noqa: N818 (as Python's own)
    """The store has no object of this name."""


class _OwnError(Exception):
    """Carries an error of this machine's own file past the attempts at the store, which would not mend it."""

    def __init__(self, error: OSError) -> None:
        self.error = error


class Objects:
    """The objects below a URL. Names are relative, with slashes; an object is there whole or not at all.

    Calls raise MissingObject for an object that is not there, PipelineError where the store does not answer, and OSError for
    a file of this machine that cannot be read or written.

    Args:
        patience_s: seconds that calls try again for.
    """

    def __init__(self, url: str, patience_s: float = PATIENCE_S) -> None:
        self.url, self._patience_s = url.rstrip("/"), patience_s

    def below(self, *names: str) -> Objects:
        return Objects("/".join((self.url, *names)), self._patience_s)

    def impatient(self) -> Objects:
        """The same, whose calls are not repeated."""
        return Objects(self.url, 0.0)

    def list(self, name: str = "") -> dict[str, tuple[int, float]]:
        """Size and time of writing of each object below `name`, by its name relative to `name`."""
        from pyarrow.fs import FileSelector

        def listed() -> dict[str, tuple[int, float]]:
            root = self._path(name)
            infos = self._files.get_file_info(FileSelector(root, recursive=True, allow_not_found=True))
            return {info.path[len(root) + 1 :]: (info.size, info.mtime_ns) for info in infos if info.is_file}

        return self._tried(listed)

    def read(self, name: str) -> bytes:
        def content() -> bytes:
            with self._files.open_input_stream(self._path(name)) as stream:
                return stream.read()

        return self._tried(content)

    def write(self, name: str, content: bytes) -> None:
        def put() -> None:
            with self._new(name) as stream:
                stream.write(content)

        self._tried(put)

    def upload(self, file: BinaryIO, size: int, name: str) -> None:
        """The first `size` bytes of an open file, which may grow."""

        def put() -> None:
            file.seek(0)
            left = size
            with self._new(name) as stream:
                while block := _own(file.read, min(BLOCK, left)):
                    stream.write(block)
                    left -= len(block)

        self._tried(put)

    def download(self, name: str, path: Path) -> None:
        def get() -> None:
            with self._files.open_input_stream(self._path(name)) as stream, _own(FileIO, path, "w") as file:
                while block := stream.read(BLOCK):
                    _own(_write, file, block)

        self._tried(get)

    def remove(self, name: str) -> None:
        """The object, if it is there."""

        def gone() -> None:
            with suppress(FileNotFoundError):
                self._files.delete_file(self._path(name))

        self._tried(gone)

    def _new(self, name: str) -> Any:
        path = self._path(name)
        return _renamed(path) if self._is_local else self._files.open_output_stream(path)

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}".rstrip("/")

    @property
    def _files(self) -> Any:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @property
    def _is_local(self) -> bool:
        return self.url.startswith("file:")

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        from pyarrow import ArrowException
        from pyarrow.fs import FileSystem, FSSpecHandler, PyFileSystem

        try:
            return FileSystem.from_uri(self.url)
        except (ArrowException, ValueError) as error:
            unknown = error
        try:
            import fsspec

            files, root = fsspec.core.url_to_fs(self.url)
        except (ImportError, ValueError) as error:
            raise PipelineError(
                f"cluster.storage={printable(redacted(self.url))} cannot be opened ({printable(redacted(str(unknown)))}; "
                f"{printable(error)}); give an address such as s3://bucket/folder, gs://bucket/folder or file:///folder"
            ) from None
        return PyFileSystem(FSSpecHandler(files)), root

    def _tried(self, call: Callable[[], T]) -> T:
        until, pause = time.monotonic() + self._patience_s, PAUSES_S[0]
        while True:
            try:
                return call()
            except _OwnError as own:
                raise own.error from None
            except FileNotFoundError as error:
                raise MissingObject(*error.args) from None
            except OSError as error:  # of pyarrow: what the store answered, or that it did not
                if time.monotonic() >= until:
                    raise PipelineError(
                        f"{self.url} does not answer ({first_line(error)}); start it, or correct cluster.storage, its "
                        "credentials (AWS_*, GOOGLE_APPLICATION_CREDENTIALS) or AWS_ENDPOINT_URL, then run this again"
                    ) from None
            time.sleep(pause)
            pause = min(2 * pause, PAUSES_S[1])


@contextmanager
def _renamed(path: str) -> Iterator[BinaryIO]:
    """A file that appears under its name once it is written."""
    with replacing(path) as part, part.open("wb") as file:
        yield file


def _own(call: Callable[..., T], *arguments: Any) -> T:
    """The result of a call that reads or writes a file of this machine."""
    try:
        return call(*arguments)
    except OSError as error:
        raise _OwnError(error) from error


def _write(file: FileIO, block: bytes) -> None:
    rest = memoryview(block)
    while rest:  # a disk that fills up takes a part first
        rest = rest[file.write(rest) :]
