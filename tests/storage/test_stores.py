"""A data store reaches each machine once."""

from __future__ import annotations

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
