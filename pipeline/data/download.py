"""Downloads that resume where an earlier attempt stopped, and are checked before they get their name."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.error
import urllib.request
from contextlib import nullcontext
from pathlib import Path

from pipeline.progress import progress

TRIES = 3  # consecutive attempts without a new byte
WAIT_S = 1.0  # before the first repeat; then doubled
TIMEOUT_S = 30.0
CHUNK = 1 << 20  # bytes
LONG = 1 << 29  # bytes from which a checksum takes long enough for a progress display


class UnavailableError(Exception):
    """A place does not have the file; the text is the reason, for the sentence that lists all places."""


def download(url: str, target: Path, md5: str = "", wait_s: float = WAIT_S) -> None:
    """Downloads `url` to `target`, which appears only when complete; until then the bytes gather in `target`.part.

    Args:
        md5: expected checksum, hexadecimal; "" for none.
        wait_s: before the first repeat; doubled after each attempt without a new byte.
    Raises:
        UnavailableError: refused, unreachable TRIES times in a row, or another checksum (the file is deleted then).
    """
    part = target.with_name(target.name + ".part")
    most, failures = _size(part), 0
    while True:
        try:
            _transfer(url, part)
            break
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code} {error.reason}"
            if error.code < 500:
                raise UnavailableError(reason) from None
        except (OSError, http.client.HTTPException) as error:
            reason = str(getattr(error, "reason", error))
        failures = 0 if _size(part) > most else failures + 1
        most = max(most, _size(part))
        if failures == TRIES:
            raise UnavailableError(reason)
        time.sleep(wait_s * 2 ** max(0, failures - 1))
    if md5 and (actual := digest(part, "md5")) != md5:
        part.unlink()
        raise UnavailableError(f"its MD5 is {actual} instead of {md5}; the download was deleted")
    part.replace(target)


def _transfer(url: str, part: Path) -> None:
    """Appends the missing bytes to `part`; downloads all of them if the server ignores Range."""
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        if error.headers.get("Content-Range", "") != f"bytes */{have}":  # otherwise `part` is complete
            part.unlink()
            raise ConnectionError("the file changed on the server") from None
        return
    with answer:
        if answer.status != 206 or not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length else None
        display = progress(
            f"download {part.name.removesuffix('.part')}", total / 1e6 if total else None, "MB", have / 1e6
        )
        with part.open("ab" if have else "wb") as file, display as bar:
            while chunk := answer.read1(CHUNK):
                file.write(chunk)
                bar.advance(len(chunk) / 1e6)
    if total is not None and _size(part) != total:
        raise ConnectionError(f"the connection closed after {_size(part)} of {total} bytes")


def digest(path: Path, algorithm: str, long: int = LONG) -> str:
    """Hexadecimal checksum of a file, with a progress display for `long` bytes or more."""
    total, state = path.stat().st_size, hashlib.new(algorithm)
    display = progress(f"{algorithm} of {path.name}", total / 1e6, "MB") if total >= long else nullcontext()
    with path.open("rb") as file, display as bar:
        while chunk := file.read(CHUNK):
            state.update(chunk)
            if bar is not None:
                bar.advance(len(chunk) / 1e6)
    return state.hexdigest()


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
