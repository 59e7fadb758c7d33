from __future__ import annotations

import pickle
import random
from pathlib import Path

import numpy as np
import pytest
from photos import tar
from records import listed, named

from reliability.pickles import CALLS, CHANGES, METAS, RAW, right_batch


def cifar(folder: Path, batches: dict[str, dict], classes: list[str], fine: bool = False) -> Path:
    prefix, meta = ("cifar-100-python", "meta") if fine else ("cifar-10-batches-py", "batches.meta")
    key = "fine_label_names" if fine else "label_names"
    files = {f"{prefix}/{name}": pickle.dumps(batch, protocol=2) for name, batch in batches.items()}
    files[f"{prefix}/{meta}"] = pickle.dumps({key: classes}, protocol=2)
    path = folder / "cifar.tar"
    path.write_bytes(tar({**files, f"{prefix}/readme.html": b"<html>"}))
    return path


def batch(start: int, labels: list[int], key: str = "labels") -> dict:
    data = np.random.default_rng(start).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return {"data": data, key: labels, "filenames": [f"f_{start + n:03d}.png" for n in range(len(labels))]}


@pytest.mark.parametrize("fine", [False, True])
def test_official_cifar_batches_become_records(fine, tmp_path):
    key, names = ("fine_labels", ("train", "test")) if fine else ("labels", ("data_batch_1", "test_batch"))
    batches = {names[0]: batch(0, [1, 0, 1], key), names[1]: batch(50, [0], key)}
    if not fine:
        batches["data_batch_2"] = batch(3, [0], key)
    classes, train, test = listed("cifar-pickles", cifar(tmp_path, batches, ["cat", "dog"], fine))
    assert classes == ["cat", "dog"]
    expected = ["cat/f_001.png", "dog/f_000.png", "dog/f_002.png"] + ([] if fine else ["cat/f_003.png"])
    assert [name for name, *_ in train] == sorted(expected) and len(test) == 1
    red = batches[names[0]]["data"][1, :1024].reshape(32, 32)  # rows of red, green, blue: Krizhevsky's page
    image = train[0][2]
    assert image.shape == (32, 32, 3) and image.dtype == np.uint8 and np.array_equal(image[..., 0], red)


class Harmful:
    def __reduce__(self):
        return eval, ("__import__('pathlib').Path('harm').touch()",)


def test_a_pickle_that_would_run_code_is_refused_before_it_does_and_so_is_a_tar_without_batches(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = cifar(tmp_path, {"data_batch_1": {"data": Harmful()}, "test_batch": {}}, ["cat", "dog"])
    with pytest.raises(ValueError, match=r"asks for (__builtin__|builtins)\.eval"):
        listed("cifar-pickles", path)
    assert not (tmp_path / "harm").exists()
    with pytest.raises(ValueError, match="no CIFAR batches"):
        listed("cifar-pickles", named(tmp_path, "train/cat/1.png"))


RNG = random.Random(0)
# All but those whose names are refused: test_classfolders.py.
BATCHES = {name: change(RNG, right_batch(RNG)) for name, change in CHANGES.items() if "\\" not in name or "xff" in name}
ODD = {
    **{name: pickle.dumps(batch, 2) for name, batch in BATCHES.items()},
    **{name: pickle.dumps({"data": call(Path("harm"))}, 2) for name, call in CALLS.items()},
    **{name: raw(RNG) for name, raw in RAW.items()},
}


@pytest.mark.parametrize("name", ODD)
def test_an_odd_batch_is_refused_by_name_without_running_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    right = cifar(tmp_path, {"data_batch_1": right_batch(RNG), "test_batch": right_batch(RNG)}, ["a", "b", "c"])
    assert len(listed("cifar-pickles", right)[1]) == 10
    files = {"data_batch_1": ODD[name], "test_batch": pickle.dumps(right_batch(RNG))}
    (tmp_path / "odd.tar").write_bytes(tar({**files, "batches.meta": pickle.dumps({"label_names": ["a", "b", "c"]})}))
    with pytest.raises(ValueError, match=r"^data_batch_1 in .*odd\.tar is no CIFAR batch: .*; get the archive anew$"):
        listed("cifar-pickles", tmp_path / "odd.tar")
    assert not Path("harm").exists()


@pytest.mark.parametrize("name", METAS)
def test_odd_names_of_classes_are_refused(name, tmp_path):
    batch = pickle.dumps(right_batch(RNG), 2)
    files = {"data_batch_1": batch, "test_batch": batch, "batches.meta": pickle.dumps(METAS[name], 2)}
    (tmp_path / "odd.tar").write_bytes(tar(files))
    with pytest.raises(ValueError, match=r"label_names|num_cases_per_batch|differ only in case|instead of a dict"):
        listed("cifar-pickles", tmp_path / "odd.tar")


@pytest.mark.parametrize("names", [("data_batch_1", "data_batch_3"), ("data_batch_1", "x/data_batch_1"), ()])
def test_missing_and_doubled_batches_are_refused(names, tmp_path):
    batch = pickle.dumps(right_batch(RNG), 2)
    (tmp_path / "odd.tar").write_bytes(tar(dict.fromkeys((*names, "test_batch", "batches.meta"), batch)))
    with pytest.raises(ValueError, match=r"batches are missing|occurs twice|holds no CIFAR batches"):
        listed("cifar-pickles", tmp_path / "odd.tar")
