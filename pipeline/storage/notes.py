"""Notes that machines leave for each other on a store of objects."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress

from pipeline.errors import PipelineError
from pipeline.storage.objects import Objects

NOTES = "notes"


def leave_note(storage: str, name: str) -> None:
    """A note that every machine can look for. `storage` is cluster.storage; "" does nothing."""
    if storage:
        Objects(storage).write(f"{NOTES}/{name}", b"")


def has_note(storage: str, name: str) -> bool:
    """Whether there is such a note, as far as the store answers at once."""
    try:
        return bool(storage) and name in Objects(storage, patience_s=0.0).list(NOTES)
    except PipelineError:
        return False


def ahead_ns(storage: str) -> int:
    """How far the store's clock is ahead of this machine's, from a note; 0 where none can be left, or the store dates none."""
    objects, name = Objects(storage, patience_s=0.0), f"clock-{uuid.uuid4().hex}"
    with suppress(PipelineError):
        objects.write(f"{NOTES}/{name}", b"")
        now_ns = time.time_ns()
        _, written_ns = objects.list(NOTES).get(name, (0, None))
        objects.remove(f"{NOTES}/{name}")
        return 0 if written_ns is None else int(written_ns) - now_ns
    return 0
