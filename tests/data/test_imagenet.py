from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from photos import tar
from records import listed
from scipy.io import savemat

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
