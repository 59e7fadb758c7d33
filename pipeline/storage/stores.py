"""Data stores on the store of objects: put there once, fetched once by each machine."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from pipeline.atomic import replacing, sha256
from pipeline.data.store import MANIFEST, Manifest, open_store
from pipeline.data.verified import mark
from pipeline.errors import DamagedError, MissingError, PipelineError
from pipeline.storage.objects import MissingObject, Objects

STORES = "stores"


def put_store(storage: str, store: Path) -> None:
    """Copies a data store to cluster.storage, under its content hash, unless it is there. "" does nothing."""
    if not storage:
        return
    manifest = open_store(store).manifest
    objects = Objects(storage).below(STORES, manifest.content_hash)
    there = objects.list()
    if MANIFEST in there:
        return
    for name, facts in manifest.files.items():
        if there.get(name, (-1, 0))[0] != facts["bytes"]:
            with (store / name).open("rb") as file:
                objects.upload(file, facts["bytes"], name)
    objects.write(MANIFEST, (store / MANIFEST).read_bytes())


def store_at_hand(store: Path, storage: str, content_hash: str, runs: Path) -> Path:
    """`store` if this machine has it with this content, else a copy from cluster.storage, kept below `runs`.

    Raises:
        PipelineError: neither has it, or what the store of objects has is damaged.
    """
    if not storage or _holds(store, content_hash):
        return store
    kept = runs / STORES / content_hash
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (kept.parent / f".{content_hash}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # trials of one machine begin together
        if not _holds(kept, content_hash):
            _fetch(Objects(storage).below(STORES, content_hash), kept)
    return kept


def _holds(store: Path, content_hash: str) -> bool:
    try:
        return open_store(store).manifest.content_hash == content_hash
    except (PipelineError, FileNotFoundError):
        return False


def _fetch(objects: Objects, kept: Path) -> None:
    # Stays if the download breaks off, so that the next one fetches the rest.
    part = kept.with_name(f".{socket.gethostname()}-{kept.name}.part")
    try:
        with replacing(kept) as whole:
            part.mkdir(exist_ok=True)
            objects.download(MANIFEST, part / MANIFEST)
            digests = {name: facts["sha256"] for name, facts in Manifest.read(part / MANIFEST).files.items()}
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
