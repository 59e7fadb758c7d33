"""Files and folders that appear whole or not at all, and JSON and arrays that are read as they were written.

They are written under a temporary name, then renamed. JSON and arrays carry a checksum, which is verified when they are read.
What can be lost without harm lies in the user's cache folder.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.errors import DamagedError

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHECKSUM, ITEMS = "checksum", "items"  # keys of JSON files; what is no object stands below ITEMS
ASIDE = ".old"  # suffix of an old folder while a new one takes its place
DIGEST = hashlib.sha256().digest_size
DAY_S = 86_400.0


@contextmanager
def replacing(path: str | Path, require: Callable[[], object] | None = None) -> Iterator[Path]:
    """Yields a temporary path beside `path`, for a file or a folder; fsyncs and renames it on success, removes it on error.

    The old `path` stays until the rename. A rename cannot replace a folder, so an old folder is set aside for a moment; if
    the process is killed just then, the next call puts it back.

    Args:
        require: called right before the rename; may raise to prevent it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    part = _temporary(path)
    aside = part.with_suffix(ASIDE)
    try:
        yield part
        for written in [*part.rglob("*"), part] if part.is_dir() else [part]:
            if not written.is_symlink():
                _fsync(written)
        if require is not None:
            require()
        if part.is_dir() and os.path.lexists(path):
            os.replace(path, aside)
        os.replace(part, path)
        _fsync(path.parent)
    except OSError as error:
        if require is not None:
            require()  # whoever has the right to write removes what others have not finished
        # A failed write names no file, and nobody knows the temporary one.
        unnamed = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if unnamed or str(error.filename).startswith(str(part)):
            error.filename = str(path)
        raise
    finally:
        _put_back(aside, path)
        remove(part)


@contextmanager
def scratch_folder(path: Path) -> Iterator[Path]:
    """An empty folder beside `path` for the block. The next call for `path` removes what a killed process left."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    folder = _temporary(path)
    folder.mkdir()
    try:
        yield folder
    finally:
        remove(folder)


def _temporary(path: Path) -> Path:
    return path.parent / f".{path.name}.{socket.gethostname()}.{os.getpid()}.{uuid.uuid4().hex[:8]}.part"


def _sweep(path: Path) -> None:
    """Removes unfinished files for `path` whose process, on this machine, has ended, and those that are idle."""
    for unfinished in path.parent.glob(".*"):
        name = re.fullmatch(rf"\.{re.escape(path.name)}\.(.+)\.(\d+)\.[0-9a-f]+(\.part|\.old)", unfinished.name)
        if name is None:
            continue
        host, pid, suffix = name.groups()
        with suppress(OSError):  # another process removes it, too, or it is another user's
            if (host == socket.gethostname() and not Path(f"/proc/{pid}").exists()) or is_idle(unfinished):
                if suffix == ASIDE:
                    _put_back(unfinished, path)
                else:
                    remove(unfinished)


def is_idle(path: Path) -> bool:
    """Whether nothing was written to a file, or in a folder, for a day.

    So the process that began it has ended: on a machine that cannot be asked, or with a number that another process has now.
    """
    with suppress(FileNotFoundError):  # it has got its name meanwhile, or was removed
        written = max(file.lstat().st_mtime for file in (path, *path.rglob("*")))
        return time.time() - written > DAY_S
    return False


def _put_back(aside: Path, path: Path) -> None:
    """Restores the old folder if nothing replaced it, and deletes it otherwise."""
    if os.path.lexists(aside) and not os.path.lexists(path):
        os.replace(aside, path)
    elif os.path.lexists(aside):
        with suppress(OSError):  # the new folder is there all the same
            emptied = _temporary(path)  # a name from which nobody restores what cannot be removed
            os.replace(aside, emptied)
            remove(emptied)


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there. What cannot be removed of a folder stays, such as files in use on NFS."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(
    path: str | Path,
    value: Any,
    *,
    checksum: bool = True,
    indent: int | None = 2,
    require: Callable[[], object] | None = None,
) -> None:
    """`value` as JSON; NaN and infinity are refused (ValueError), since JSON has neither.

    Args:
        checksum: whether `read_json` is to verify the file; files for other programs go without.
        indent: None for a file of megabytes that is written often: Python takes ten times as long to indent it.
        require: see `replacing`.
    """
    text = json.dumps(value, indent=None if checksum else indent, allow_nan=False)
    if checksum:
        content = value if isinstance(value, dict) else {ITEMS: value}
        text = json.dumps({**content, CHECKSUM: _checksum(json.loads(text))}, indent=indent)
    with replacing(path, require) as part:
        part.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path, remedy: str = "remove it and run the command that writes it again") -> Any:
    """What `write_json` wrote. A file without a checksum is taken as it is.

    Args:
        remedy: what the user can do about a damaged file.
    Raises:
        DamagedError: no JSON, or its checksum disagrees with the rest.
    """
    try:
        value = json.loads(Path(path).read_bytes())
    except (ValueError, RecursionError) as error:
        raise DamagedError(f"{path} is damaged ({error}); {remedy}") from None
    if not isinstance(value, dict):
        return value
    checksum = value.pop(CHECKSUM, None)
    content = value.get(ITEMS, value)
    if checksum not in (None, _checksum(content)):
        raise DamagedError(f"{path} is damaged (its checksum disagrees with its content); {remedy}")
    return content


def read_if_whole(path: Path) -> dict[str, Any]:
    """`read_json` of a file that can be made again by itself: {} if it is absent, or damaged, which stderr is told."""
    try:
        return read_json(path, "it is made again") if path.exists() else {}
    except DamagedError as error:
        print(error, file=sys.stderr)
        return {}


def _checksum(value: Any) -> str:
    """Of JSON's values, whatever their layout in the file and the order of keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_array(path: Path, values: NDArray[Any]) -> NDArray[Any]:
    """Writes .npy and, behind it, its SHA-256, which NumPy does not read. Returns the values memory-mapped and read-only."""
    import numpy as np

    content = BytesIO()
    np.save(content, values)
    content.write(hashlib.sha256(content.getbuffer()).digest())
    with replacing(path) as part:
        part.write_bytes(content.getbuffer())
    return np.load(path, mmap_mode="r")


def read_array(path: Path, remedy: str) -> NDArray[Any] | None:
    """What `write_array` returned; None if the file is absent, or damaged, which stderr is told with `remedy`."""
    import numpy as np

    if path.exists() and _is_whole(path, path.stat().st_mtime_ns):
        return np.load(path, mmap_mode="r")
    if path.exists():
        print(f"{path} is damaged; {remedy}", file=sys.stderr)
    return None


@cache
def _is_whole(path: Path, modified_ns: int) -> bool:
    """Whether a file ends in the SHA-256 of what comes before. Looked at once a process."""
    content = path.read_bytes()
    return hashlib.sha256(content[:-DIGEST]).digest() == content[-DIGEST:]


def sha256(path: str | Path) -> str:
    """Hex digest of a file's bytes."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def user_cache() -> Path:
    """This project's folder in XDG_CACHE_HOME or ~/.cache; for a user without a home, a folder that ends with the process."""
    base, home = os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~")
    if not base and home == "~":
        return Path(_folder_of_process().name)
    return Path(base or Path(home) / ".cache") / "resnet-pipeline"


@cache
def _folder_of_process() -> TemporaryDirectory:
    return TemporaryDirectory(prefix="resnet-pipeline-")
