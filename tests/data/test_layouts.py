"""Every layout in which people have their images, and what becomes of it."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from photos import tar
from records import config

from pipeline.data.readers import open_published

SEEDED = {f"{cls}/{n}.png": b"" for cls in ("cat", "dog") for n in range(1, 6)}


def files(*names: str, under: str = "") -> dict[str, bytes]:
    """Files that hold their own names."""
    return {under + name: (under + name).encode() for name in names}


def table(*rows: str, by: str = ",") -> bytes:
    written = io.StringIO()
    csv.writer(written, delimiter=by).writerows(row.split() for row in rows)
    return written.getvalue().encode()


def places(published) -> tuple:
    """Names of the images that train, validate and test."""
    train, val = ([r.name for r in published.train if r.val is held] for held in (False, True))
    return published.classes, train, val, [r.name for r in published.test]


CATS_AND_DOGS = ["cat", "dog"]
TRAIN = ("train/cat/1.png", "train/dog/2.png")
# Layout: files, changed keys, and classes, train, val and test.
READ = {
    "train and test": (
        files(*TRAIN, "test/cat/3.png"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], [], ["cat/3.png"]),
    ),
    "train, val and test": (
        files(*TRAIN, "val/dog/1.png", "test/cat/3.png"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], ["dog/1.png"], ["cat/3.png"]),
    ),
    "train and val": (
        files(*TRAIN, "val/cat/3.png"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], [], ["cat/3.png"]),
    ),
    "an image of the same name in train and val": (
        files(*TRAIN, "valid/cat/1.png", "test/cat/1.png"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], ["cat/1.png"], ["cat/1.png"]),
    ),
    "other names of splits": (
        files("Training/cat/1.png", "TESTING/cat/2.png", "Validation/cat/3.png"),
        {},
        (["cat"], ["cat/1.png"], ["cat/3.png"], ["cat/2.png"]),
    ),
    "dev": (
        files("Train/cat/1.png", "Test/cat/2.png", "dev/cat/3.png"),
        {},
        (["cat"], ["cat/1.png"], ["cat/3.png"], ["cat/2.png"]),
    ),
    "a wrapping folder": (
        files("train/cat/1.png", "test/cat/2.png", "README.md", "logo.png", under="set/"),
        {},
        (["cat"], ["cat/1.png"], [], ["cat/2.png"]),
    ),
    "folders beside the wrapping one": (
        files("set/train/cat/1.png", "set/test/cat/2.png", "docs/logo.png"),
        {},
        (["cat"], ["cat/1.png"], [], ["cat/2.png"]),
    ),
    "train alone": (
        {f"train/{name}": content for name, content in SEEDED.items()},
        {},
        (
            CATS_AND_DOGS,
            [f"{cls}/{n}.png" for cls in CATS_AND_DOGS for n in (1, 2, 3, 5)],
            [],
            ["cat/4.png", "dog/4.png"],
        ),
    ),
    "flat class folders": (SEEDED, {"num_test": 8}, (CATS_AND_DOGS, ["cat/5.png", "dog/5.png"], [], None)),
    "hidden files": (
        files(
            *TRAIN,
            "test/cat/3.png",
            "train/.cache/4.png",
            ".git/5.png",
            "__MACOSX/train/cat/6.png",
            "train/cat/._1.png",
        ),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], [], ["cat/3.png"]),
    ),
    "classes that are called like splits": (
        files("car/1.png", "car/2.png", "car/3.png", "train/4.png", "train/5.png", "train/6.png"),
        {"layout": "classes", "num_test": 2},
        (["car", "train"], None, [], None),
    ),
    "other folders beside train, if it is the training set": (
        files("train/cat/1.png", "train/cat/2.png", "train/cat/3.png", "docs/logo.png"),
        {"layout": "splits"},
        (["cat"], None, [], None),
    ),
    "Tiny ImageNet": (
        {
            **files("train/n01/images/a.JPEG", "train/n02/images/b.JPEG", "val/images/v.JPEG", "test/images/t.JPEG"),
            "val/val_annotations.txt": b"v.JPEG\tn02\t0\t0\t9\t9\n",
            "wnids.txt": b"n01",
        },
        {},
        (["n01", "n02"], ["n01/images/a.JPEG", "n02/images/b.JPEG"], [], ["n02/v.JPEG"]),
    ),
    "Kaggle: ids in train.csv, images in folders": (
        {
            **files(
                "train/1.jpg", "train/2.jpg", "train/3.jpg", "train/4.jpg", "train/5.jpg", "train/6.jpg", "test/1.jpg"
            ),
            "train.csv": table("id label", "1 cat", "2 cat", "3 cat", "4 dog", "5 dog", "6 dog"),
            "sample_submission.csv": table("id label", "1 cat"),
        },
        {"num_test": 2},
        (CATS_AND_DOGS, None, [], None),
    ),
    "a table of each split, beside the images": (
        {
            **files("1.png", "2.png", "3.png", "4.png"),
            "train.csv": table("image breed", "1.png cat", "2.png dog"),
            "test.csv": table("image breed", "3.png cat"),
            "valid.csv": table("image breed", "4.png dog"),
        },
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], ["dog/4.png"], ["cat/3.png"]),
    ),
    "labels.csv with paths, semicolons and a column of splits": (
        {
            **files("images/1.png", "images/2.png", "images/3.png"),
            "labels.csv": table("y file split", "cat images/1.png train", "dog 2.png train", "cat 3.png test", by=";"),
        },
        {},
        (CATS_AND_DOGS, ["cat/images/1.png", "dog/images/2.png"], [], ["cat/images/3.png"]),
    ),
    "metadata.csv in each split's folder": (
        {
            **files("train/1.png", "train/2.png", "test/1.png"),
            "train/metadata.csv": table("file_name label", "1.png cat", "2.png dog"),
            "test/metadata.csv": table("file_name label", "1.png dog"),
        },
        {},
        (CATS_AND_DOGS, ["cat/train/1.png", "dog/train/2.png"], [], ["dog/test/1.png"]),
    ),
    "one of two tables": (
        {
            **files("images/1.png", "images/2.png", "images/3.png"),
            "a.csv": table("id label split", "1 cat train", "2 cat test", "3 cat val"),
            "b.csv": table("id label", "1 dog", "2 dog", "3 dog"),
        },
        {"labels": "a.csv"},
        (["cat"], ["cat/images/1.png"], ["cat/images/3.png"], ["cat/images/2.png"]),
    ),
}
IMAGES = files("images/1.png", "images/2.png")
# Layout: files, changed keys, and a part of the sentence.
REFUSED = {
    "no images": (files("notes.txt"), {}, r"holds 0 class folders with images; arrange"),
    "images without labels": (
        files("1.png", "2.png"),
        {},
        r"holds 0 class folders with images; .* or add a CSV of labels",
    ),
    "test alone": (files("test/cat/1.png"), {}, r"no images in train/<class>/\*"),
    "two folders of validation": (
        files(*TRAIN, "val/cat/3.png", "valid/cat/4.png"),
        {},
        r"holds both val/ and valid/; merge them",
    ),
    "a class of val that train lacks": (
        files(*TRAIN, "val/owl/3.png", "test/cat/4.png"),
        {},
        r"val/owl/3\.png in .* is of class owl, which train/ does not have",
    ),
    "a class of test that train lacks": (
        files(*TRAIN, "test/owl/3.png"),
        {},
        "is of class owl, which train/ does not have",
    ),
    "train and class folders": (
        files(*TRAIN, "owl/3.png"),
        {},
        r"holds train/ and owl/ at its top; if all are classes, say so \(override: data\.layout=classes\), if train/ is the "
        r"training set, that \(override: data\.layout=splits\)",
    ),
    "class folders and test": (
        files(*SEEDED, "test/1.png"),
        {},
        r"holds test/ and cat/, dog/ at its top; .*into train/",
    ),
    "splits inside classes": (
        files("cat/train/1.png", "dog/train/2.png", "cat/test/3.png"),
        {},
        r"lies in a split inside a class; arrange it as (train|test)/cat/\*",
    ),
    "too few to test": (
        files("cat/1.png", "cat/2.png", "dog/1.png"),
        {},
        "class dog in .* has 1 images, and no test set is",
    ),
    "a number to test beside a test set": (
        files(*TRAIN, "test/cat/1.png"),
        {"num_test": 3},
        r"data\.num_test=3, but .* has a test set of 1 images; .*data\.num_test=0",
    ),
    "a class folder without an image": (files(*SEEDED, "owl/notes.txt"), {}, r"hold no image: owl/ \(1 other files\)"),
    "two tables": (
        IMAGES | {name: table("id label", "1 cat", "2 dog") for name in ("a.csv", "b.csv")},
        {},
        r"2 tables that name images, a\.csv and b\.csv among them; .*data\.labels=a\.csv or data\.labels=b\.csv",
    ),
    "a table and class folders": (
        SEEDED | {"a.csv": table("id width", "cat/1.png 3")},
        {},
        r"the folders cat/, dog/ and a\.csv, .*data\.layout=classes.*data\.labels=a\.csv",
    ),
    "several columns of labels": (
        IMAGES | {"a.csv": table("id colour shape", "1 red round", "2 blue round")},
        {},
        r"a\.csv has the columns id, colour, shape, of which several could be the label; call the one that is meant label",
    ),
    "a row without its image": (
        IMAGES | {"a.csv": table("id label", "1 cat", "9 dog")},
        {},
        r"9 of a\.csv names no image of",
    ),
    "a row for two images": (
        files("a/1.png", "a/1.jpg") | {"a.csv": table("id label", "1 cat", "a/1.png dog")},
        {},
        r"1 of a\.csv names 2 images of .*; write its path",
    ),
    "an empty label": (
        IMAGES | {"a.csv": b"id,label\n1,cat\n2,\n"},
        {},
        r"images/2\.png has no label in the tables of .*; give each",
    ),
    "a row of another length": (
        IMAGES | {"a.csv": table("id label", "1 cat", "2")},
        {},
        r"line 3 of a\.csv .* has 1 values",
    ),
    "no CSV": (IMAGES | {"a.csv": b"id,label\n\xff,1"}, {}, r"a\.csv in .* is no CSV in UTF-8"),
    "labels that are no table": (
        IMAGES | {"a.csv": table("id label", "1 cat")},
        {"labels": "b.csv"},
        r"data\.labels=b\.csv is no table that names images of .*; its tables are: a\.csv",
    ),
    "an image of Tiny ImageNet without its label": (
        files(*TRAIN, "val/images/v.JPEG") | {"val/val_annotations.txt": b"w.JPEG\tcat\n"},
        {},
        r"val/images/v\.JPEG in .* has no label in val_annotations\.txt",
    ),
}


def packed(kind: str, folder: Path, content: dict[str, bytes]) -> Path:
    if kind == "tar":
        (folder / "set.tar").write_bytes(tar(content))
        return folder / "set.tar"
    for name, data in content.items():
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set" / name).write_bytes(data)
    return folder / "set"


@pytest.mark.parametrize("kind", ["tar", "folder"])
@pytest.mark.parametrize("layout", READ)
def test_a_layout_gives_classes_and_splits_alike_from_an_archive_and_a_folder(layout, kind, tmp_path):
    content, changes, expected = READ[layout]
    path = packed(kind, tmp_path, content)
    with open_published("class-folders", [path], tmp_path, config(**changes)) as published:
        found = places(published)
        for image in (*published.train, *published.test):
            assert image.image.read() == content[image.image.name]
    assert found == tuple(have if want is None else want for have, want in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ["tar", "folder"])
@pytest.mark.parametrize("layout", REFUSED)
def test_a_layout_that_is_unclear_is_refused_with_what_to_do(layout, kind, tmp_path):
    content, changes, sentence = REFUSED[layout]
    path = packed(kind, tmp_path, content)
    with (
        pytest.raises(ValueError, match=sentence) as caught,
        open_published("class-folders", [path], tmp_path, config(**changes)),
    ):
        pass
    assert str(caught.value).isprintable()
