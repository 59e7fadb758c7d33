from __future__ import annotations

import pickle
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from pipeline.atomic import sha256, write_json
from pipeline.data import verified
from pipeline.data.store import ArrayRecords, ArrayWriter, Manifest, open_store
from pipeline.data.verified import mark, notes_file, verify
from pipeline.errors import DamagedError

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (12, 4, 4, 3), dtype=np.uint8)
LABELS = np.arange(12) % 3


def make_manifest(folder: Path, **changes) -> Manifest:
    facts = {
        "name": "tiny",
        "format": "arrays",
        "classes": ("a", "b", "c"),
        "counts": {"train": 12, "test": 12},
        "channels": 3,
        "height": 4,
        "width": 4,
        "image_size": 4,
        "split": {"num_val": 3, "seed": 0},
        "skipped": (),
        "files": {p.name: {"bytes": p.stat().st_size, "sha256": sha256(p)} for p in folder.iterdir()},
    }
    return Manifest.make(**(facts | changes))


@pytest.fixture
def store(tmp_path):
    for split in ("train", "test"):
        with ArrayWriter(tmp_path, split) as writer:
            for image, label in zip(IMAGES, LABELS, strict=True):
                writer.append(image, label, "")
        np.save(tmp_path / f"{split}_labels.npy", LABELS)
    np.savez(
        tmp_path / "splits.npz", holdout_train=np.arange(9), holdout_val=np.arange(9, 12), full_train=np.arange(12)
    )
    statistics = {}
    for n, split in enumerate(("holdout", "full")):
        statistics |= {f"{split}_{key}": np.float32([n]) for key in ("mean", "std")}
        statistics[f"{split}_pixel_mean"] = np.full((4, 4, 3), n, np.float32)
    np.savez(tmp_path / "statistics.npz", **statistics)
    write_json(tmp_path / "manifest.json", asdict(make_manifest(tmp_path)))
    return tmp_path


def test_images_come_back_memory_mapped_and_are_pickled_by_path(store):
    for records in (open_store(store).train(), open_store(store).test()):
        assert isinstance(records, ArrayRecords) and len(records) == 12
        packed = pickle.dumps(records)
        assert len(packed) < 500
        for copy in (records, pickle.loads(packed)):
            assert isinstance(copy.images, np.memmap) and not copy.images.flags.writeable
            assert np.array_equal(copy.images, IMAGES) and np.array_equal(copy.labels, LABELS)


def test_holdout_has_validation_images_and_full_has_none_and_each_its_own_statistics(store):
    opened = open_store(store)
    train, val = opened.split_indices("holdout")
    assert (train.tolist(), val.tolist()) == (list(range(9)), [9, 10, 11])
    train, val = opened.split_indices("full")
    assert (train.tolist(), val.tolist(), val.dtype) == (list(range(12)), [], np.int64)
    holdout, full = (opened.statistics(split) for split in ("holdout", "full"))
    assert (holdout.mean, full.mean) == (0, 1)
    assert (holdout.pixel_mean.max(), full.pixel_mean.min()) == (0, 1) and full.pixel_mean.shape == (4, 4, 3)
    assert full.covariance is None


def test_fewer_training_images_are_of_every_class_and_among_more(store):
    opened = open_store(store)
    some, val = opened.split_indices("full", 3)
    more, _ = opened.split_indices("full", 6)
    assert sorted(LABELS[some]) == sorted(set(LABELS.tolist())) and set(some) < set(more)
    assert len(opened.split_indices("full", 12)[0]) == 12 and len(val) == 0
    with pytest.raises(ValueError, match=r"data\.num_train=2 with 12 training images in 3 classes"):
        opened.split_indices("full", 2)


def test_an_unknown_split_is_refused(store):
    for read in (open_store(store).split_indices, open_store(store).statistics):
        with pytest.raises(ValueError, match=r"data\.split=val; allowed are holdout and full"):
            read("val")


def test_a_missing_store_and_a_missing_or_shortened_file_are_named(store):
    with pytest.raises(FileNotFoundError, match="holds no data store; run `pipeline preprocess`"):
        open_store(store / "absent")
    path = store / "train_images.npy"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"train_images\.npy has 703 bytes, not the 704"):
        open_store(store)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"train_images\.npy is missing"):
        open_store(store)


READS = {
    "train_images.npy": lambda store: store.train(),
    "train_labels.npy": lambda store: store.train(),
    "test_images.npy": lambda store: store.test(),
    "splits.npz": lambda store: store.split_indices("holdout"),
    "statistics.npz": lambda store: store.statistics("full"),
}


@pytest.mark.parametrize("name", READS)
def test_a_file_that_has_changed_is_named_before_its_first_use(name, store):
    READS[name](open_store(store))
    content = bytearray((store / name).read_bytes())
    content[-40] ^= 1
    (store / name).write_bytes(content)
    with pytest.raises(DamagedError, match=f"{name} is not as preprocess wrote it; run `pipeline preprocess`"):
        READS[name](open_store(store))
    if name != "test_images.npy":  # which nobody else reads
        open_store(store).test()


def test_a_large_file_is_hashed_once_a_machine_until_it_changes(store, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    hashed, digests = [], {"train_images.npy": sha256(store / "train_images.npy")}
    monkeypatch.setattr(verified, "sha256", lambda path: hashed.append(path) or sha256(path))
    for _ in range(2):
        monkeypatch.setattr(verified, "_verified", {})  # another process
        verify(store, digests, large=100)
    assert len(hashed) == 1
    (store / "train_images.npy").touch()
    notes_file().write_text("{")
    monkeypatch.setattr(verified, "_verified", {})
    verify(store, digests, large=100)
    assert len(hashed) == 2 and "checksum" in notes_file().read_text()


@pytest.fixture
def shards(tmp_path, monkeypatch):
    """A folder of files that are large if 100 bytes are, and their sha256; on a machine that has verified none."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(verified, "_verified", {})
    folder = tmp_path / "shards"
    folder.mkdir()
    for number in range(5):
        (folder / f"{number}.arrow").write_bytes(bytes([number]) * 100)
    return folder, {path.name: sha256(path) for path in sorted(folder.iterdir())}


def test_of_large_files_only_those_are_hashed_that_an_interrupted_process_has_left(shards, monkeypatch):
    (folder, digests), hashed = shards, []

    def fails_at_the_fourth(path):
        if path.name == "3.arrow":
            raise OSError
        return sha256(path)

    monkeypatch.setattr(verified, "sha256", fails_at_the_fourth)
    with pytest.raises(OSError):
        verify(folder, digests, large=100)
    monkeypatch.setattr(verified, "_verified", {})  # another process
    monkeypatch.setattr(verified, "sha256", lambda path: hashed.append(path.name) or sha256(path))
    verify(folder, digests, large=100)
    assert sorted(hashed) == ["3.arrow", "4.arrow"]


def test_processes_that_begin_together_hash_each_large_file_once(shards, monkeypatch):
    (folder, digests), hashed = shards, []

    def slowly(path):
        hashed.append(path.name)
        time.sleep(0.1)
        return sha256(path)

    monkeypatch.setattr(verified, "sha256", slowly)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda _: verify(folder, digests, large=100), range(2)))
    assert sorted(hashed) == sorted(digests)


def test_files_that_were_compared_elsewhere_are_not_hashed_where_they_were_moved(shards, tmp_path, monkeypatch):
    folder, digests = shards
    moved = folder.rename(tmp_path / "moved")
    mark(moved, digests, large=100)
    monkeypatch.setattr(verified, "_verified", {})
    monkeypatch.setattr(verified, "sha256", pytest.fail)
    verify(moved, digests, large=100)


def test_the_content_hash_covers_everything_but_the_name(store):
    first = make_manifest(store)
    assert make_manifest(store, name="other").content_hash == first.content_hash
    changed = [{"classes": ("a", "c", "b")}, {"split": {"num_val": 3, "seed": 1}}, {"skipped": ("train/a/1",)}]
    changed.append({"files": first.files | {"splits.npz": {"bytes": 1, "sha256": "0"}}})
    assert len({make_manifest(store, **change).content_hash for change in changed} | {first.content_hash}) == 5


def test_reading_arrays_needs_numpy_alone(store):
    code = f"""
import sys
from pipeline.data.store import open_store
store = open_store({str(store)!r})
store.train().images[0], store.split_indices("full"), store.statistics("full")
print(sorted({{"torch", "pyarrow", "PIL", "sklearn", "scipy", "pytorch_lightning"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
