"""Notes that machines leave for each other on a store of objects."""

from __future__ import annotations

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
