"""PASCAL VOC's folders: years, sets, boxes counted from 1, difficult objects."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from photos import encoded, noise
from test_layouts import packed

from pipeline.config import DataConfig
from pipeline.config.limits import LimitsConfig
from pipeline.data.places import VOC, Official
from pipeline.data.readers import open_published
from pipeline.data.sources import fetch, fetched
from pipeline.errors import MissingError, PipelineError

IMAGE = encoded(noise(0, 30, 40), "JPEG")


def annotations(*objects: str, size: str = "<size><width>40</width><height>30</height></size>") -> bytes:
    return f"<annotation>{size}{''.join(objects)}</annotation>".encode()


def thing(name: str, *corners: float, difficult: int = 0) -> str:
    sides = "".join(
        f"<{side}>{value}</{side}>" for side, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
    )
    return f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox>{sides}</bndbox></object>"


def year(name: str, sets: dict[str, list[str]], **files: bytes) -> dict[str, bytes]:
    folder, images = f"VOCdevkit/{name}", {image for listed in sets.values() for image in listed}
    dog = annotations(thing("dog", 1, 1, 40, 30), thing("cat", 3.5, 2, 10, 20, difficult=1))
    return {
        **{f"{folder}/ImageSets/Main/{part}.txt": "\n".join(listed).encode() for part, listed in sets.items()},
        f"{folder}/ImageSets/Main/dog_trainval.txt": b"1 -1",
        **{f"{folder}/JPEGImages/{image}.jpg": IMAGE for image in images},
        **{f"{folder}/Annotations/{image}.xml": files.get(f"_{image}", dog) for image in images},
        f"{folder}/SegmentationClass/1.png": b"",
    }


SETS = {"trainval": ["1", "2"], "train": ["1"], "val": ["2"], "test": ["3"]}
CONFIG = DataConfig(name="voc", source="voc", path="set", format="shards", num_val=1, workers=1)


def read(content: dict[str, bytes], root: Path):
    return open_published("voc", [packed("folder", root, content)], root, CONFIG)


def test_both_years_train_and_the_test_set_of_2007_tests(tmp_path):
    later = year("VOC2012", {"trainval": ["8", "9"], "train": ["8"], "val": ["9"], "test": ["7"]})
    del later["VOCdevkit/VOC2012/Annotations/7.xml"]  # which is not published
    with read(year("VOC2007", SETS) | later, tmp_path) as published:
        assert published.classes == ["cat", "dog"]
        assert [record.image.name.split("/")[1:] for record in published.train] == [
            ["VOC2007", "JPEGImages", "1.jpg"],
            ["VOC2007", "JPEGImages", "2.jpg"],
            ["VOC2012", "JPEGImages", "8.jpg"],
            ["VOC2012", "JPEGImages", "9.jpg"],
        ]
        assert [record.image.name.split("/")[-1] for record in published.test] == ["3.jpg"]
        boxes = published.train[0].boxes
        assert boxes.size == (40, 30) and boxes.labels.tolist() == [1, 0] and boxes.ignored.tolist() == [False, True]
        assert boxes.corners.tolist() == [[0, 0, 40, 30], [2.5, 1, 10, 20]]


def test_without_a_test_set_train_trains_and_val_tests(tmp_path):
    sets = {name: listed for name, listed in SETS.items() if name != "test"}
    with read(year("VOC2012", sets), tmp_path) as published:
        assert [record.image.name[-5:] for record in (*published.train, *published.test)] == ["1.jpg", "2.jpg"]


REFUSED = {
    "nothing": ({"VOCdevkit/readme.txt": b""}, r"holds no VOC2007 or VOC2012 with ImageSets/Main/trainval\.txt"),
    "no annotations": ({"VOCdevkit/VOC2007/Annotations/2.xml": None}, r"lists image 2 of VOC2007, but Annotations/2\.xml is not there"),
    "no image": ({"VOCdevkit/VOC2007/JPEGImages/3.jpg": None}, r"lists image 3 of VOC2007, but JPEGImages/3\.jpg is not there"),
    "no XML": ({"VOCdevkit/VOC2007/Annotations/2.xml": b"<annotation>"}, r"Annotations/2\.xml in .* is damaged \("),
    "no size": ({"VOCdevkit/VOC2007/Annotations/2.xml": annotations(size="")}, r"is damaged \(size/width is missing\)"),
    "no number": ({"VOCdevkit/VOC2007/Annotations/2.xml": annotations(thing("dog", 1, 2, 3, "x"))}, r"is damaged \(could not convert"),
    "a size of none": ({"VOCdevkit/VOC2007/Annotations/2.xml": annotations(size="<size><width>0</width><height>9</height></size>")}, r"is damaged \(size/width is 0\)"),
    "a size beyond any": ({"VOCdevkit/VOC2007/Annotations/2.xml": annotations(size=f"<size><width>9</width><height>{'9' * 400}</height></size>")}, r"is damaged \(size/height is 999"),
    "an encoding that nobody knows": ({"VOCdevkit/VOC2007/Annotations/2.xml": b'<?xml version="1.0" encoding="utf-77"?><annotation/>'}, r"is damaged \(unknown encoding"),
    "a list that is no UTF-8": ({"VOCdevkit/VOC2007/ImageSets/Main/trainval.txt": b"\xff"}, "lists image .* of VOC2007, but"),
    "an image of two sets": ({"VOCdevkit/VOC2007/ImageSets/Main/test.txt": b"3 2"}, r"JPEGImages/2\.jpg in .* is an image of train and of test; leave it in one of them"),
    "a class of its own": ({"VOCdevkit/VOC2007/Annotations/2.xml": annotations(thing("helmet", 1, 2, 3, 9))}, r"^object 1 of .*Annotations/2\.xml in .* is of class helmet, which is none of VOC's 20 classes; .*\(override: data=boxes\)"),
    "outside": ({"VOCdevkit/VOC2007/Annotations/2.xml": annotations(thing("dog", 50, 2, 60, 3))}, r"object 1 of .*2\.jpg in .* lies outside of its 40x30 pixels"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_damaged_folders_are_refused_by_name(case, tmp_path):
    changes, sentence = REFUSED[case]
    content = changes if case == "nothing" else year("VOC2007", SETS) | changes
    with pytest.raises(PipelineError, match=sentence):
        read({name: data for name, data in content.items() if data is not None}, tmp_path).__enter__()


def test_annotations_beyond_a_limit_are_refused_by_the_limit(tmp_path):
    few = replace(CONFIG, limits=LimitsConfig(entry_mb=1e-4))
    with pytest.raises(PipelineError, match=r"^[^(]* holds .*1\.xml with .*data\.limits\.entry_mb="):
        open_published("voc", [packed("folder", tmp_path, year("VOC2007", SETS))], tmp_path, few).__enter__()


def test_the_archives_are_found_in_a_mirror_and_a_folder_by_its_path(tmp_path):
    import hashlib

    official = {}
    for number, key in enumerate(VOC):
        data = f"archive {number}".encode()
        (tmp_path / "mirror").mkdir(exist_ok=True)
        (tmp_path / "mirror" / f"{key}.tar").write_bytes(data)
        official[key] = Official(f"{key}.tar", hashlib.md5(data).hexdigest(), "http://127.0.0.1:9/voc.tar")
    mirrored = DataConfig(name="voc", source="voc", mirror="mirror", format="shards")
    fetch(mirrored, tmp_path / "raw", tmp_path, official)
    assert [path.name for path in fetched(mirrored, tmp_path / "raw").paths] == [f"{key}.tar" for key in VOC]
    packed("folder", tmp_path, year("VOC2007", SETS))
    fetch(CONFIG, tmp_path / "raw", tmp_path)
    assert fetched(CONFIG, tmp_path / "raw").paths == [tmp_path / "set"]
    with pytest.raises(MissingError, match="holds no VOC2007/ or VOC2012/ or VOCdevkit/; name the folder that does"):
        fetch(DataConfig(name="voc", source="voc", path=".", format="shards"), tmp_path / "raw", tmp_path)
