"""The journal: a run's events on local disk, one JSON object a line.

Training appends to it and never waits for a server. `pipeline.tracking.shipper` replays it to MLflow; replaying it twice
changes nothing.
"""

from __future__ import annotations

import json
import math
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

NAME = "journal.jsonl"


class Journal:
    """Appends events to `folder`/journal.jsonl; safe to call from several threads of one process."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / NAME
        self._lock = threading.Lock()
        self._last_step: dict[str, int] = {}
        events, whole = read(self.path)
        for event in events:
            for key in event.get("values", ()):
                self._last_step[key] = max(self._last_step.get(key, -1), event["step"])
        if self.path.exists():
            os.truncate(self.path, whole)  # or the next event would continue a line that a crash cut short

    def begin(self, name: str, experiment: str, params: dict[str, Any], tags: dict[str, str]) -> None:
        self._append({"event": "begin", "name": name, "experiment": experiment, "params": params, "tags": tags})

    def metrics(self, step: int, values: dict[str, float]) -> None:
        """Values at an optimiser step, except those that an earlier attempt wrote for the same key and step."""
        with self._lock:
            fresh = {k: v for k, v in values.items() if step > self._last_step.get(k, -1)}
            self._last_step.update(dict.fromkeys(fresh, step))
        if fresh:
            finite = {k: v if math.isfinite(v) else str(v) for k, v in fresh.items()}
            self._append({"event": "metrics", "step": step, "values": finite})

    def artifact(self, path: Path, folder: str) -> None:
        """A file to upload to `folder` of the run's artifacts."""
        self._append({"event": "artifact", "path": str(path), "folder": folder})

    def tags(self, tags: dict[str, str]) -> None:
        self._append({"event": "tags", "tags": tags})

    def tested(self, experiment: str, key: str, step: int, values: Mapping[str, float]) -> None:
        """Test errors of the run with this key, which need not be the journal's own."""
        self._append({"event": "tested", "experiment": experiment, "key": key, "step": step, "values": dict(values)})

    def end(self, status: str) -> None:
        """`status` is one of MLflow's: FINISHED, FAILED, KILLED."""
        self._append({"event": "end", "status": status})

    def _append(self, event: dict[str, Any]) -> None:
        line = json.dumps({"time": int(time.time() * 1000), **event}) + "\n"
        with self._lock, self.path.open("a") as stream:
            stream.write(line)
            stream.flush()
            if event["event"] != "metrics":
                os.fsync(stream.fileno())


def read(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Events from byte `offset` on, and the offset behind the last complete line."""
    if not path.exists():
        return [], 0
    with path.open("rb") as stream:
        stream.seek(offset)
        text = stream.read()
    whole = text.rfind(b"\n") + 1
    return [json.loads(line) for line in text[:whole].splitlines()], offset + whole
