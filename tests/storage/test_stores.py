"""A data store reaches each machine once."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from runs import Workspaces

from pipeline.data import verified
from pipeline.data.store import MANIFEST, open_store
from pipeline.errors import DamagedError, MissingError, PipelineError
from pipeline.storage.objects import Objects
from pipeline.storage.stores import STORES, put_store, store_at_hand


def test_a_machine_without_the_data_gets_it_once(
    workspace: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, storage = workspace() / "data" / "store" / "digits", f"file://{tmp_path}/store"
    content_hash = open_store(store).manifest.content_hash
    with pytest.raises(MissingError, match="holds no data store"):
        store_at_hand(tmp_path / "none", storage, content_hash, tmp_path / "runs")
    put_store(storage, store)
    assert store_at_hand(store, storage, content_hash, tmp_path / "runs") == store
    first = store_at_hand(tmp_path / "none", storage, content_hash, tmp_path / "runs")
    assert first.is_relative_to(tmp_path / "runs")
    opened = open_store(first)
    assert opened.manifest.content_hash == content_hash and len(opened.train()) == len(open_store(store).train())
    monkeypatch.setattr(Objects, "download", None)
    assert store_at_hand(tmp_path / "none", storage, content_hash, tmp_path / "runs") == first
    put_store(storage, store)


def test_a_file_that_the_storage_has_lost_comes_back_with_the_next_sweep(workspace: Workspaces, tmp_path: Path) -> None:
    store, storage = workspace() / "data" / "store" / "digits", f"file://{tmp_path}/store"
    manifest = open_store(store).manifest
    put_store(storage, store)
    (tmp_path / "store" / STORES / manifest.content_hash / next(iter(manifest.files))).unlink()
    with pytest.raises(MissingError, match="the sweep that puts it there starts again"):
        store_at_hand(tmp_path / "none", storage, manifest.content_hash, tmp_path / "runs")
    put_store(storage, store)
    assert store_at_hand(tmp_path / "none", storage, manifest.content_hash, tmp_path / "runs").is_dir()


def test_a_download_that_broke_off_goes_on_and_what_it_compared_is_not_hashed_again(
    workspace: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, storage = workspace() / "data" / "store" / "digits", f"file://{tmp_path}/store"
    manifest = open_store(store).manifest
    put_store(storage, store)
    whole, fetched = Objects.download, []

    def breaks_off(self: Objects, name: str, path: Path) -> None:
        if len(fetched) == 3:
            raise PipelineError("the store does not answer")
        whole(self, name, path)
        fetched.append(name)

    monkeypatch.setattr(Objects, "download", breaks_off)
    with pytest.raises(PipelineError, match="does not answer"):
        store_at_hand(tmp_path / "none", storage, manifest.content_hash, tmp_path / "runs")
    monkeypatch.setattr(Objects, "download", lambda *arguments: fetched.append(arguments[1]) or whole(*arguments))
    brought = store_at_hand(tmp_path / "none", storage, manifest.content_hash, tmp_path / "runs")
    assert fetched == [MANIFEST, *list(manifest.files)[:2], MANIFEST, *list(manifest.files)[2:]]
    assert not list(brought.parent.glob(".*.part"))
    monkeypatch.setattr(verified, "sha256", pytest.fail)
    assert len(open_store(brought).train()) == manifest.counts["train"]


def test_a_copy_that_was_damaged_is_fetched_again(
    workspace: Workspaces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store, storage = workspace() / "data" / "store" / "digits", f"file://{tmp_path}/store"
    content_hash = open_store(store).manifest.content_hash
    put_store(storage, store)
    kept = store_at_hand(tmp_path / "none", storage, content_hash, tmp_path / "runs")
    array = kept / "train_images.npy"
    content = bytearray(array.read_bytes())
    content[-9] ^= 4
    array.write_bytes(content)
    os.utime(array, (1e9, 1e9))
    assert store_at_hand(tmp_path / "none", storage, content_hash, tmp_path / "runs") == kept
    assert array.read_bytes() == (store / "train_images.npy").read_bytes()
    assert f"{kept} is damaged; it is fetched again\n" in capsys.readouterr().err


def test_what_machines_that_did_not_come_back_had_fetched_is_removed(workspace: Workspaces, tmp_path: Path) -> None:
    store, storage = workspace() / "data" / "store" / "digits", f"file://{tmp_path}/store"
    content_hash = open_store(store).manifest.content_hash
    put_store(storage, store)
    lost, busy, own = (
        tmp_path / "runs" / STORES / f".{host}-{content_hash}.part" for host in ("pod-7", "pod-8", socket.gethostname())
    )
    for part in (lost, busy, own):
        part.mkdir(parents=True)
    for part in (lost, own):
        os.utime(part, (1e9, 1e9))
    kept = store_at_hand(tmp_path / "none", storage, content_hash, tmp_path / "runs")
    assert list(kept.parent.glob(".*.part")) == [busy]


def test_a_store_is_fetched_to_a_file_system_without_locks(
    workspace: Workspaces, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    store, storage = workspace() / "data" / "store" / "digits", f"file://{tmp_path}/store"
    manifest = open_store(store).manifest
    put_store(storage, store)
    monkeypatch.setattr("fcntl.flock", refuse)
    kept = store_at_hand(tmp_path / "none", storage, manifest.content_hash, tmp_path / "runs")
    assert open_store(kept).manifest == manifest and not list(kept.parent.glob(".*.part"))


def test_data_that_changed_on_the_way_are_refused(workspace: Workspaces, tmp_path: Path) -> None:
    store, storage = workspace() / "data" / "store" / "digits", f"file://{tmp_path}/store"
    content_hash = open_store(store).manifest.content_hash
    put_store(storage, store)
    array = tmp_path / "store" / STORES / content_hash / "train_images.npy"
    content = bytearray(array.read_bytes())
    content[-1] ^= 1
    array.write_bytes(content)
    with pytest.raises(DamagedError, match=r"train_images.npy has changed since it was written"):
        store_at_hand(tmp_path / "none", storage, content_hash, tmp_path / "runs")
