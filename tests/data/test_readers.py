from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from photos import encoded, noise, tar
from PIL import Image
from scipy.io import savemat

from pipeline.config import LimitsConfig
from pipeline.data.archives import Entry
from pipeline.data.readers import decode, open_published


def listed(layout: str, *paths: Path, num_test: int = 0):
    """Classes, and of each record its name, label and bytes or pixels."""
    with open_published(layout, list(paths), paths[0].parent, LimitsConfig(), num_test) as published:
        return published.classes, *(
            [(r.name, r.label, r.image.read() if isinstance(r.image, Entry) else r.image) for r in records]
            for records in (published.train, published.test)
        )


def class_folders(tmp_path: Path, *names: str) -> Path:
    path = tmp_path / "set.tar"
    path.write_bytes(tar({name: name.encode() for name in names}))
    return path


def test_class_folders_are_sorted_by_class_and_name(tmp_path):
    path = class_folders(tmp_path, "train/dog/2.png", "test/cat/1.jpg", "train/cat/9.png", "train/dog/10.JPEG")
    classes, train, test = listed("class-folders", path)
    assert classes == ["cat", "dog"]
    assert [(name, label) for name, label, _ in train] == [("cat/9.png", 0), ("dog/10.JPEG", 1), ("dog/2.png", 1)]
    assert test == [("cat/1.jpg", 0, b"test/cat/1.jpg")]


def test_val_is_the_test_set_only_where_there_is_no_test(tmp_path):
    names = ["train/cat/1.png", "val/cat/2.png"]
    assert [n for n, *_ in listed("class-folders", class_folders(tmp_path, *names))[2]] == ["cat/2.png"]
    names.append("test/cat/3.png")
    assert [n for n, *_ in listed("class-folders", class_folders(tmp_path, *names))[2]] == ["cat/3.png"]


def test_one_folder_around_the_set_deeper_folders_and_strangers_are_tolerated(tmp_path):
    names = ["set/train/cat/images/1.png", "set/val/cat/2.png", "set/train/cat/boxes.txt", "set/README.md"]
    names += ["set/train/cat/._1.png", "__MACOSX/train/cat/1.png", "set/train/loose.png", ".hidden/train/cat/1.png"]
    _, train, test = listed("class-folders", class_folders(tmp_path, *names))
    assert [name for name, *_ in train] == ["cat/images/1.png"] and len(test) == 1


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["val/cat/1.png"], r"no images in train/<class>/\*"),
        (["train/cat/1.png"], r"no images in test/<class>/\* or val/<class>/\*"),
        (["train/cat/1.png", "test/dog/1.png"], "is of class dog, which train/ does not have"),
        (["train/cat/1.png", "train/cat/1.png", "test/cat/1.png"], "occurs twice"),
    ],
)
def test_other_layouts_are_refused(names, sentence, tmp_path):
    (tmp_path / "set.tar").write_bytes(tar({}, tuple(tarfile.TarInfo(name) for name in names)))
    with pytest.raises(ValueError, match=sentence):
        listed("class-folders", tmp_path / "set.tar")


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
        listed("cifar-pickles", class_folders(tmp_path, "train/cat/1.png"))


def test_digits_are_scaled_and_their_test_set_is_stratified(tmp_path):
    from sklearn.datasets import load_digits

    published = load_digits()
    np.savez(tmp_path / "digits.npz", images=published.images.astype(np.uint8), labels=published.target)
    classes, train, test = listed("digits", tmp_path / "digits.npz", num_test=360)
    assert classes == list("0123456789") and (len(train), len(test)) == (1437, 360)
    assert not {name for name, *_ in train} & {name for name, *_ in test}
    shares = np.bincount([label for _, label, _ in test])
    assert shares.min() >= 34 and shares.max() <= 37
    name, label, image = train[700]
    source = published.images[int(name.split("/")[1])]
    assert label == published.target[int(name.split("/")[1])]
    assert image.shape == (8, 8, 1) and np.array_equal(image[..., 0], np.round(source * 255 / 16 + 1e-9))
    assert max(image.max() for *_, image in train) == 255


WNIDS = {1: "n03", 2: "n01", 3: "n02"}


def imagenet(folder: Path, wnids=WNIDS, truth=(3, 1, 2, 2)) -> list[Path]:
    """Official tars in small: IDs are not in the order of wnids, and a parent synset is no class."""
    types = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(n, wnid, f"word {wnid}", "gloss", 0) for n, wnid in wnids.items()] + [(4, "n00", "entity", "gloss", 3)]
    mat = io.BytesIO()
    savemat(mat, {"synsets": np.array(rows, dtype=types).reshape(-1, 1)})
    ground_truth = "".join(f"{number}\n" for number in truth).encode()
    kit = {"kit/data/meta.mat": mat.getvalue(), "kit/data/ILSVRC2012_validation_ground_truth.txt": ground_truth}
    per_class = {f"{w}.tar": tar({f"{w}_{n}.JPEG": f"{w} {n}".encode() for n in (20, 3)}) for w in WNIDS.values()}
    val = {f"ILSVRC2012_val_0000000{n}.JPEG": f"val {n}".encode() for n in (2, 1, 4, 3)}
    paths = [folder / "train.tar", folder / "val.tar", folder / "devkit.tar"]
    for path, files in zip(paths, (per_class, val, kit), strict=True):
        path.write_bytes(tar(files))
    return paths


def test_official_imagenet_tars_are_read_without_unpacking(tmp_path):
    classes, train, test = listed("ilsvrc-tars", *imagenet(tmp_path))
    assert classes == ["n01", "n02", "n03"]
    assert train[:3] == [
        ("n01/n01_20.JPEG", 0, b"n01 20"),
        ("n01/n01_3.JPEG", 0, b"n01 3"),
        ("n02/n02_20.JPEG", 1, b"n02 20"),
    ]
    expected = {1: "n02", 2: "n03", 3: "n01", 4: "n01"}  # ground truth 3, 1, 2, 2 through WNIDS
    assert {image: (name.split("/")[0], label) for name, label, image in test} == {
        f"val {n}".encode(): (wnid, classes.index(wnid)) for n, wnid in expected.items()
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["devkit.tar", "train.tar", "val.tar"]


def test_tars_and_class_folders_of_imagenet_give_the_same_records(tmp_path):
    tars = listed("ilsvrc-tars", *imagenet(tmp_path))
    folder = tmp_path / "unpacked"
    for split, records in zip(("train", "val"), tars[1:], strict=True):
        for name, _, image in records:
            (folder / split / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / split / name).write_bytes(image)
    assert listed("class-folders", folder) == tars


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"truth": (3, 1, 2)}, "holds 4 images, but the devkit labels 3"),
        ({"wnids": {1: "n03", 2: "n01"}, "truth": (1, 1, 2, 2)}, r"n02\.tar .* belongs to no class of the devkit"),
        ({"wnids": {**WNIDS, 5: "n05"}}, "lacks 1 of the devkit's classes, n05"),
    ],
)
def test_imagenet_files_that_do_not_belong_together_are_refused(changes, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        listed("ilsvrc-tars", *imagenet(tmp_path, **changes))


def test_decode_refuses_what_is_damaged_deep_or_no_image():
    jpeg = encoded(noise(0, 64, 64), "JPEG")
    assert decode(jpeg).size == (64, 64)
    with pytest.raises(OSError, match="truncated"):
        decode(jpeg[:2000])
    with pytest.raises(ValueError, match="no image"):
        decode(b"<html>not found</html>")
    with pytest.raises(ValueError, match="more than 8 bits"):
        decode(encoded(Image.fromarray(np.zeros((4, 4), np.uint16))))
