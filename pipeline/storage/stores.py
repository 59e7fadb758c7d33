"""Data stores on the store of objects: put there once, fetched once by each machine."""

from __future__ import annotations

import fcntl
import os
import socket
import sys
from pathlib import Path

from pipeline.atomic import is_idle, remove, replacing, sha256
from pipeline.data.store import MANIFEST, Manifest, open_store
from pipeline.data.verified import mark, verify
from pipeline.errors import DamagedError, MissingError, PipelineError
from pipeline.storage.objects import MissingObject, Objects

STORES = "stores"


def put_store(storage: str, store: Path) -> None:
    """Copies what cluster.storage lacks of a data store there, under its content hash. "" does nothing."""
    if not storage:
        return
    manifest = open_store(store).manifest
    objects = Objects(storage).below(STORES, manifest.content_hash)
    there = objects.list()
    for name, facts in manifest.files.items():
        if there.get(name, (-1, 0))[0] != facts["bytes"]:
            with (store / name).open("rb") as file:
                objects.upload(file, facts["bytes"], name)
    if MANIFEST not in there:
        objects.write(MANIFEST, (store / MANIFEST).read_bytes())


def store_at_hand(store: Path, storage: str, content_hash: str, runs: Path) -> Path:
    """`store` if this machine has it with this content, else a copy from cluster.storage, kept below `runs`.

    A copy that was damaged is fetched again.

    Raises:
        PipelineError: neither has it, or what the store of objects has is damaged.
    """
    if not storage or _holds(store, content_hash):
        return store
    kept = runs / STORES / content_hash
    if _holds(kept, content_hash, intact=True):
        return kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (kept.parent / f".{content_hash}.lock").open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)  # trials of one machine begin together
            alone = True
        except OSError:  # a file system without locks
            alone = False
        if not _holds(kept, content_hash, intact=True):
            if kept.exists():
                print(f"{kept} is damaged; it is fetched again", file=sys.stderr)
            _fetch(Objects(storage).below(STORES, content_hash), kept, alone)
    return kept


def _holds(store: Path, content_hash: str, intact: bool = False) -> bool:
    """Whether a folder is the data store with this content; `intact` compares every file with its sha256."""
    try:
        manifest = open_store(store).manifest
        if intact:
            verify(store, _digests(manifest))
        return manifest.content_hash == content_hash
    except (PipelineError, FileNotFoundError):
        return False


def _digests(manifest: Manifest) -> dict[str, str]:
    return {name: facts["sha256"] for name, facts in manifest.files.items()}


def _fetch(objects: Objects, kept: Path, alone: bool) -> None:
    # Stays if the download breaks off, so that the next one fetches the rest. Two at once would spoil it.
    own = kept.with_name(f".{socket.gethostname()}-{kept.name}.part")
    for other in kept.parent.glob(f".*-{kept.name}.part"):
        if other != own and is_idle(other):  # of a machine that did not come back
            remove(other)
    try:
        with replacing(kept) as whole:
            part = own if alone else whole
            part.mkdir(exist_ok=True)
            objects.download(MANIFEST, part / MANIFEST)
            digests = _digests(Manifest.read(part / MANIFEST))
            for name, digest in digests.items():
                if (part / name).exists() and sha256(part / name) == digest:
                    continue
                objects.download(name, part / name)
                if sha256(part / name) != digest:
                    raise DamagedError(f"{objects.url}/{name} has changed since it was written; remove {objects.url}")
            os.replace(part, whole)
    except MissingObject:
        raise MissingError(f"{objects.url} holds no data store; the sweep that puts it there starts again") from None
    mark(kept, digests)
