"""The runs that a store keeps, brought to this machine's folder of runs; and notes that machines leave for each other."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

from pipeline.errors import PipelineError
from pipeline.storage.copy import pulled
from pipeline.storage.objects import Objects

RUNS, NOTES = "runs", "notes"


def objects_of(storage: str, folder: Path) -> Objects:
    """Where the store keeps a run."""
    return Objects(storage).below(RUNS, folder.name)


def bring(folder: Path, storage: str, without: Iterable[str] = ()) -> bool:
    """Makes the run's folder on this machine the store's newest copy of it; false if it is, or the store has none.

    Args:
        storage: cluster.storage; "" does nothing.
        without: files that are not needed here.
    """
    return bool(storage) and pulled(folder, objects_of(storage, folder), without=without)


def bring_all(runs: Path, storage: str, prefixes: tuple[str, ...] = ("",), without: Iterable[str] = ()) -> None:
    """`bring` of each run whose name begins so. One that is damaged is left out, which stderr is told."""
    if not storage:
        return
    names = {name.partition("/")[0] for name in Objects(storage).below(RUNS).list()}
    for name in sorted(name for name in names if name.startswith(prefixes)):
        try:
            bring(runs / name, storage, without)
        except PipelineError as error:
            print(error, file=sys.stderr)


def leave_note(storage: str, name: str) -> None:
    """A note that every machine can look for."""
    if storage:
        Objects(storage).write(f"{NOTES}/{name}", b"")


def has_note(storage: str, name: str) -> bool:
    """Whether there is such a note, as far as the store answers at once."""
    try:
        return bool(storage) and name in Objects(storage, patience_s=0.0).list(NOTES)
    except PipelineError:
        return False
