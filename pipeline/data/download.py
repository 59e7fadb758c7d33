"""Downloads that resume where an earlier attempt stopped, and are checked before they get their name.

Bytes gather in a .part beside the target, whose name holds a hash of the URL, so that each place has its own. A .part.json says
which file of the server they are: the hash, the server's ETag or date of change, and the whole length. A part of another
file is never continued.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple

from pipeline.atomic import read_json, user_cache, write_json
from pipeline.data.connection import Answer, HttpError, open_url
from pipeline.errors import printable
from pipeline.progress import progress

CHUNK = 1 << 20  # bytes
LONG = 1 << 29  # bytes from which a checksum takes long enough for a progress display
_BUSY = (408, 425, 429, 500, 502, 503, 504)  # HTTP: the server may answer later


class UnavailableError(Exception):
    """A place does not have the file; the text is the reason, for the sentence that lists all places."""


class Patience(NamedTuple):
    """How much a server is allowed to fail."""

    tries: int = 3  # consecutive attempts that bring less than `least`
    wait_s: float = 1.0  # before the first repeat; then doubled
    longest_wait_s: float = 120.0  # that a server may ask for
    timeout_s: float = 30.0  # in which `least` bytes must come, the first of them included
    least: int = 1 << 15  # bytes: 1 kB/s


PATIENCE = Patience()


@dataclass(frozen=True)
class _Part:
    """What the bytes of a .part are."""

    url: str  # its SHA-256
    validator: str = ""  # a strong ETag, or Last-Modified; "" where the server gives none
    total: int = -1  # bytes of the whole file; -1 where the server does not say


class _AgainError(Exception):
    """This attempt failed; the next one may not. `after_s` is what the server asks to wait."""

    def __init__(self, reason: str, after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.after_s = after_s


def download(url: str, target: Path, limit: float, md5: str = "", patience: Patience = PATIENCE) -> None:
    """Downloads `url` to `target`, which appears only when complete.

    Args:
        limit: the most bytes to take.
        md5: expected checksum, hexadecimal; "" for none.
    Raises:
        UnavailableError: refused, unreachable or too slow `patience.tries` times in a row, more than `limit` bytes, a web
            page instead of an archive, or another checksum (the file is deleted then).
    """
    with _alone(target):
        if not (md5 and target.is_file() and digest(target, "md5") == md5):
            _download(url, target, limit, md5, patience)


def _download(url: str, target: Path, limit: float, md5: str, patience: Patience) -> None:
    for _ in range(2):
        attempt = _Attempt(url, target, limit, bool(md5), patience)
        attempt.whole()
        actual = digest(attempt.part, "md5") if md5 else ""
        if actual == md5:
            attempt.part.replace(target)
            attempt.forget()
            return
        attempt.forget()
        if not attempt.resumed:  # otherwise its first bytes may have been those of another file
            break
    raise UnavailableError(f"its MD5 is {actual} instead of {md5}; the download was deleted")


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """For the block, no other process of this machine downloads the file: two would append to one part."""
    with ExitStack() as open_:
        with suppress(OSError):  # a file system without locks
            user_cache().mkdir(parents=True, exist_ok=True)
            name = hashlib.sha256(os.fsencode(target.resolve())).hexdigest()[:12]
            lock = open_.enter_context((user_cache() / f"download.{name}.lock").open("wb"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"another process downloads {target}; this one waits for it", file=sys.stderr, flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class _Attempt:
    """One download, attempt by attempt."""

    def __init__(self, url: str, target: Path, limit: float, checked: bool, patience: Patience) -> None:
        self._url, self._name, self._limit, self._checked, self._patience = url, target.name, limit, checked, patience
        self._hash = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()
        self.part = target.with_name(f"{target.name}.{self._hash[:8]}.part")
        self._facts_path = target.with_name(f"{self.part.name}.json")
        self._facts = self._read_facts()
        self.resumed = _size(self.part) > 0

    def _read_facts(self) -> _Part:
        """Of the bytes that are there; those of another URL, or of nobody knows what, are deleted."""
        try:
            facts = _Part(**{key: read_json(self._facts_path)[key] for key in ("url", "validator", "total")})
        except (OSError, ValueError, TypeError, KeyError):
            facts = _Part("")
        if facts.url != self._hash or not (facts.validator or self._checked):
            self.forget()
            return _Part(self._hash)
        return facts

    def forget(self) -> None:
        """Deletes the part and what is known of it."""
        self.part.unlink(missing_ok=True)
        self._facts_path.unlink(missing_ok=True)
        self._facts = _Part(self._hash)

    def whole(self) -> None:
        """Repeats until the part is complete; see `download` for errors."""
        most, failures, patience = _size(self.part), 0, self._patience
        while True:
            try:
                return self._once()
            except _AgainError as error:
                reason, after_s = printable(error), error.after_s
            except ConnectionError as error:
                reason, after_s = printable(error), 0.0
            failures = 0 if _size(self.part) >= most + patience.least else failures + 1
            most = max(most, _size(self.part))
            if failures == patience.tries:
                raise UnavailableError(reason)
            if after_s > patience.longest_wait_s:
                raise UnavailableError(f"{reason}; the server asks to wait {after_s:,.0f} s, so try again then")
            time.sleep(max(patience.wait_s * 2 ** max(0, failures - 1), after_s))

    def _once(self) -> None:
        """Appends the missing bytes to the part, or downloads all of them if the server has another file now."""
        have = _size(self.part)
        headers = {"Range": f"bytes={have}-"} if have else {}
        if have and self._facts.validator:
            headers["If-Range"] = self._facts.validator
        patience = self._patience
        try:
            answer = open_url(self._url, headers, patience.timeout_s, patience.least)
        except HttpError as error:
            return self._refused(error, have)
        with answer:
            self._require_archive(answer)
            start, total = self._range(answer, have)
            self.resumed = start > 0
            if not start:  # before the facts change: a kill must not leave old bytes with new facts
                self.part.unlink(missing_ok=True)
            self._facts = _Part(self._hash, answer.validator, total)
            write_json(self._facts_path, asdict(self._facts))
            self._receive(answer, start, total)
        if total >= 0 and _size(self.part) != total:
            raise _AgainError(f"the connection closed after {_size(self.part)} of {total} bytes")
        return None

    def _refused(self, error: HttpError, have: int) -> None:
        if error.code == 416 and have:
            if error.headers.get("Content-Range", "") == f"bytes */{have}" and self._facts.total in (-1, have):
                return  # the part is complete
            self.forget()
            raise _AgainError("the file changed on the server")
        if error.code in _BUSY:
            raise _AgainError(str(error), _seconds(error.headers.get("Retry-After", "")))
        raise UnavailableError(printable(error))

    def _require_archive(self, answer: Answer) -> None:
        """Raises UnavailableError for what cannot be the file: a login page, or bytes that would need decoding."""
        encoding = answer.header("Content-Encoding").lower()
        # Servers call a .tgz's own compression an encoding.
        if encoding not in ("", "identity") and not (
            encoding in ("gzip", "x-gzip") and self._name.lower().endswith("gz")
        ):
            raise UnavailableError(
                f"the server encodes it as {printable(encoding)}, though asked for the file as it is"
            )
        if answer.header("Content-Type").lower().startswith(("text/html", "application/xhtml")):
            raise UnavailableError("the server sent a web page instead, perhaps to log in")

    def _range(self, answer: Answer, have: int) -> tuple[int, int]:
        """Where the answer's bytes belong, and the whole file's length or -1."""
        length = answer.length
        if answer.status == 200:
            return 0, length
        given = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", answer.header("Content-Range"))
        start, end, total = (int(n) if n.isdecimal() else -1 for n in given.groups()) if given else (-1, -1, -1)
        if total == -1 and self._facts.total != -1:
            total = self._facts.total
        complete = total == end + 1 and length in (-1, end + 1 - start)
        if answer.status != 206 or start != have or not complete or self._facts.total not in (-1, total):
            self.forget()
            raise _AgainError(
                f"HTTP {answer.status} with other bytes than those from {have:,} on, which were asked for"
            )
        if self._facts.validator and answer.validator not in ("", self._facts.validator):
            self.forget()
            raise _AgainError("the file changed on the server")
        return start, total

    def _receive(self, answer: Answer, start: int, total: int) -> None:
        self._require_below_limit(total)
        display = progress(f"download {self._name}", total / 1e6 if total >= 0 else None, "MB", start / 1e6)
        size = start
        with self.part.open("ab" if start else "wb") as file, display as bar:
            while chunk := answer.read(CHUNK):
                size += len(chunk)
                if 0 <= total < size:
                    self.forget()
                    raise _AgainError(f"more than the {total} bytes that the server announced came")
                self._require_below_limit(size)
                file.write(chunk)
                bar.advance(len(chunk) / 1e6)

    def _require_below_limit(self, size: int) -> None:
        if size > self._limit:
            self.forget()
            raise UnavailableError(
                f"it has {size:,} bytes or more, and data.limits.total_gb={self._limit / 1e9:g} allows no more"
            )


def _seconds(retry_after: str) -> float:
    """What a Retry-After header asks for: seconds, or a date; 0 for none."""
    if re.fullmatch(r"\d{1,9}", retry_after):
        return float(retry_after)
    try:
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return 0.0


def digest(path: Path, algorithm: str, long: int = LONG) -> str:
    """Hexadecimal checksum of a file, with a progress display for `long` bytes or more."""
    return digests(path, (algorithm,), long)[0]


def digests(path: Path, algorithms: tuple[str, ...], long: int = LONG) -> list[str]:
    """As `digest`, several in one reading."""
    total, states = path.stat().st_size, [hashlib.new(algorithm) for algorithm in algorithms]
    title = f"{' and '.join(algorithms)} of {path.name}"
    display = progress(title, total / 1e6, "MB") if total >= long else nullcontext()
    with path.open("rb") as file, display as bar:
        while chunk := file.read(CHUNK):
            for state in states:
                state.update(chunk)
            if bar is not None:
                bar.advance(len(chunk) / 1e6)
    return [state.hexdigest() for state in states]


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
