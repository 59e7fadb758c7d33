from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from photos import tar
from records import listed


class Python2(pickle._Pickler):
    """Writes texts and bytes as Python 2 does, which wrote the official archives."""

    def _string(self, value: str | bytes) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(content).to_bytes(4, "little") + content)

    dispatch: ClassVar = {**pickle._Pickler.dispatch, str: _string, bytes: _string}


def dumped(value: object) -> bytes:
    written = io.BytesIO()
    Python2(written, protocol=2).dump(value)
    return written.getvalue()


def cifar(folder: Path, batches: dict[str, dict], classes: list[str], fine: bool = False) -> Path:
    prefix, meta = ("cifar-100-python", "meta") if fine else ("cifar-10-batches-py", "batches.meta")
    key = "fine_label_names" if fine else "label_names"
    files = {f"{prefix}/{name}": dumped(batch) for name, batch in batches.items()}
    files[f"{prefix}/{meta}"] = dumped({key: classes})
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


def test_a_pickle_that_would_run_code_is_refused_before_it_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = cifar(tmp_path, {"data_batch_1": {"data": Harmful()}, "test_batch": {}}, ["cat", "dog"])
    with pytest.raises(
        ValueError,
        match=r"^\S+/data_batch_1 in .*cifar\.tar asks for (__builtin__|builtins)\.eval, which .*; get the archive anew$",
    ):
        listed("cifar-pickles", path)
    assert not (tmp_path / "harm").exists()
