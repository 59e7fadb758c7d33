"""The journal: a run's events on local disk, one JSON object a line, each with a checksum.

Training appends to it and never waits for a server. `pipeline.tracking.shipper` replays it to MLflow; replaying it twice
changes nothing. A training whose journal cannot be written (a full disk) stops; its checkpoints stay, and the journal
ends with a whole line.
"""

from __future__ import annotations

import json
import math
import os
import re
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

NAME = "journal.jsonl"
ATTEMPT = "attempt"  # metric: the number of each attempt, where and when it began
CRC = b', "crc": "'  # the last key of a line: CRC-32 of the bytes before it
MARKED_BYTES = 64  # at the end of a mark's bytes; they hold the checksum of the last line
MARK = re.compile(r"[0-9]{1,15}-[0-9a-f]{8}")
_reported: set[Path] = set()  # journals of whose damage stderr has been told


class Journal:
    """Appends events to `folder`/journal.jsonl; safe to call from several threads of one process.

    Events' times never go backwards and pass as the monotonic clock does, even if the system's clock is set back.

    Args:
        require: called before each event is written; may raise to prevent it.
    """

    def __init__(self, folder: Path, require: Callable[[], object] = lambda: None) -> None:
        self._require = require
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._lock = threading.Lock()
        self._last_step: dict[str, int] = {}
        events, whole = read(self.path)
        for event in events:
            for key in event.get("values", ()):
                self._last_step[key] = max(self._last_step.get(key, -1), event["step"])
        self._earliest = max((event["time"] for event in events), default=0)
        self._offset = max(time.time_ns(), self._earliest * 10**6) - time.monotonic_ns()
        if self.path.exists() and self.path.stat().st_size > whole:
            os.truncate(self.path, whole)  # or the next event would continue the line
            print(f"{self.path}: the last line was cut short and is left out", file=sys.stderr)

    def begin(
        self, name: str, experiment: str, params: dict[str, Any], tags: dict[str, str], since: float | None = None
    ) -> None:
        """`since` is `time.monotonic()` of the run's start, if that was before this call."""
        event: dict[str, Any] = {
            "event": "begin",
            "name": name,
            "experiment": experiment,
            "params": params,
            "tags": tags,
        }
        if since is not None:
            event["time"] = max(self._earliest, (self._offset + int(since * 10**9)) // 10**6)
        self._append(event)

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Values at an optimiser step, except those that an earlier attempt wrote for the same key and step."""
        with self._lock:
            fresh = {k: v for k, v in values.items() if step > self._last_step.get(k, -1)}
            self._last_step.update(dict.fromkeys(fresh, step))
        if fresh:
            finite = {k: v if math.isfinite(v) else str(v) for k, v in fresh.items()}
            self._append({"event": "metrics", "step": step, "values": finite})

    def attempt(self, step: int, number: int) -> None:
        """The attempt's number as a metric at its first step, even if an earlier one began at this step too."""
        self._append({"event": "metrics", "step": step, "values": {ATTEMPT: number}})

    def last_step(self, prefix: str) -> int:
        """The highest step of the metrics whose names begin so; -1 without any."""
        with self._lock:
            return max((step for key, step in self._last_step.items() if key.startswith(prefix)), default=-1)

    def artifact(self, path: Path, folder: str) -> None:
        """A file to upload to `folder` of the run's artifacts.

        Raises:
            ValueError: the file is not below the journal's folder, where nothing else replaces it.
        """
        self._append({"event": "artifact", "path": self._own(path), "folder": folder})

    def model(self, served: Path, weights: Mapping[str, Path]) -> None:
        """Files of which MLflow makes a model of the run, see `pipeline.tracking.models.Model`: weights by their sha256.

        Raises:
            ValueError: as `artifact`.
        """
        files = {digest: self._own(path) for digest, path in weights.items()}
        self._append({"event": "model", "path": self._own(served), "weights": files})

    def _own(self, path: Path) -> str:
        return str(path.relative_to(self.path.parent))

    def tags(self, tags: Mapping[str, str | None]) -> None:
        """None removes a tag."""
        self._append({"event": "tags", "tags": dict(tags)})

    def tested(self, experiment: str, key: str, step: int, values: Mapping[str, float]) -> None:
        """Test errors of the run with this key, which need not be the journal's own."""
        self._append({"event": "tested", "experiment": experiment, "key": key, "step": step, "values": dict(values)})

    def end(self, status: str) -> None:
        """`status` is one of MLflow's: FINISHED, FAILED, KILLED."""
        self._append({"event": "end", "status": status})

    def _append(self, event: dict[str, Any]) -> None:
        with self._lock, self.path.open("ab", buffering=0) as stream:
            self._require()
            size = stream.seek(0, os.SEEK_END)
            rest = memoryview(line_of({"time": (self._offset + time.monotonic_ns()) // 10**6, **event}))
            try:
                while rest:  # a disk that fills up takes a part first
                    rest = rest[stream.write(rest) :]
            except OSError:
                os.truncate(self.path, size)
                raise
            if event["event"] != "metrics":
                os.fsync(stream.fileno())


def begin_of(path: Path) -> dict[str, Any] | None:
    """The first event that begins the journal's run; no more of the file is read. None without one."""
    if not path.exists():
        return None
    with path.open("rb") as stream:
        events = (event for line in stream if line.endswith(b"\n") for event in _events(line))
        return next((event for event in events if event is not None and event["event"] == "begin"), None)


def mark(path: Path, offset: int) -> str:
    """Tells the first `offset` bytes of a journal from those of another: their number, and the CRC-32 of the last ones."""
    with path.open("rb") as stream:
        stream.seek(max(0, offset - MARKED_BYTES))
        return f"{offset}-{zlib.crc32(stream.read(min(offset, MARKED_BYTES))):08x}"


def marked(path: Path, text: str) -> int:
    """The offset whose `mark` the text is; 0 where it is that of another journal, or none."""
    offset = int(text.partition("-")[0]) if MARK.fullmatch(text) else 0
    return offset if offset <= path.stat().st_size and mark(path, offset) == text else 0


def line_of(event: dict[str, Any]) -> bytes:
    head = json.dumps(event).encode()[:-1]
    return head + CRC + b'%08x"}\n' % zlib.crc32(head)


def read(path: Path, offset: int = 0, until: int | None = None) -> tuple[list[dict[str, Any]], int]:
    """Events from byte `offset` on, before byte `until`, and the offset behind the last complete line.

    A line that a full disk cut short, or that has changed since, is left out, which stderr is told once a process.
    """
    if not path.exists():
        return [], 0
    with path.open("rb") as stream:
        stream.seek(offset)
        text = stream.read(-1 if until is None else max(0, until - offset))
    whole = text.rfind(b"\n") + 1
    events = list(_events(text[:whole]))
    if (damaged := events.count(None)) and path not in _reported:
        _reported.add(path)
        print(f"{path}: {damaged} of {len(events)} lines are damaged and left out", file=sys.stderr)
    return [event for event in events if event is not None], offset + whole


def _events(text: bytes) -> Iterator[dict[str, Any] | None]:
    """The event of each line, None for a damaged one."""
    for line in text.split(b"\n")[:-1]:
        head, mark, crc = line.rpartition(CRC)
        try:
            if not mark or crc != b'%08x"}' % zlib.crc32(head):
                raise ValueError
            event = json.loads(line)
            del event["crc"]
            yield event if event["event"] and event["time"] else None
        except (ValueError, LookupError, TypeError, AttributeError):
            yield None
