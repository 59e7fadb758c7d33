"""Every layout in which people have their images, and what becomes of it."""

from __future__ import annotations

import csv
import io
import json
from itertools import product
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from photos import tar
from records import config, listed

from pipeline.config import LimitsConfig
from pipeline.data.readers import open_published

SEEDED = {f"{cls}/{n}.png": b"" for cls in ("cat", "dog") for n in range(1, 6)}


def files(*names: str, under: str = "") -> dict[str, bytes]:
    """Files that hold their own names."""
    return {under + name: (under + name).encode() for name in names}


def table(*rows: str, by: str = ",") -> bytes:
    written = io.StringIO()
    csv.writer(written, delimiter=by).writerows(row.split() for row in rows)
    return written.getvalue().encode()


def lines(*rows: dict) -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()


def parquet(labels: list, names: list[str] | None = None, titles: tuple[str, ...] = ("image", "label")) -> bytes:
    written = pa.BufferOutputStream()
    pq.write_table(_rows(labels, names, titles), written)
    return written.getvalue().to_pybytes()


def arrow(labels: list, names: list[str] | None = None, titles: tuple[str, ...] = ("image", "label")) -> bytes:
    written, rows = pa.BufferOutputStream(), _rows(labels, names, titles)
    with pa.ipc.new_stream(written, rows.schema) as stream:
        stream.write_table(rows)
    return written.getvalue().to_pybytes()


def _rows(labels: list, names: list[str] | None, titles: tuple[str, ...]) -> pa.Table:
    """As `datasets` writes them: images are structs, labels are numbers, and the schema's metadata name the classes.

    An image holds the name of its class.
    """
    classes = [names[label] if names and label < len(names) else f"{label}" for label in labels]
    images = [{"bytes": None if name == "lost" else name.encode(), "path": "1.png"} for name in classes]
    about = {"info": {"features": {titles[1]: {"names": names, "_type": "ClassLabel"}}}} if names else {}
    columns = [
        pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
        *[labels] * len(titles[1:]),
    ]
    return pa.table(dict(zip(titles, columns, strict=True)), metadata={"huggingface": json.dumps(about)})


def places(published) -> tuple:
    """Names of the images that train, validate and test."""
    train, val = ([r.name for r in published.train if r.val is held] for held in (False, True))
    return published.classes, train, val, [r.name for r in published.test]


CATS_AND_DOGS = ["cat", "dog"]
TRAIN = ("train/cat/1.png", "train/dog/2.png")
KEPT = [f"{cls}/{n}.png" for cls in CATS_AND_DOGS for n in (1, 5)]  # of SEEDED, where 6 are drawn to test
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
        files("Training/cat/1.png", "Training/dog/4.png", "TESTING/cat/2.png", "Validation/cat/3.png"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/4.png"], ["cat/3.png"], ["cat/2.png"]),
    ),
    "dev": (
        files("Train/cat/1.png", "Train/dog/4.png", "Test/cat/2.png", "dev/cat/3.png"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/4.png"], ["cat/3.png"], ["cat/2.png"]),
    ),
    "a wrapping folder": (
        files(*TRAIN, "test/cat/2.png", "README.md", "logo.png", under="set/"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], [], ["cat/2.png"]),
    ),
    "folders beside the wrapping one": (
        files("set/train/cat/1.png", "set/train/dog/2.png", "set/test/cat/2.png", "docs/logo.png"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], [], ["cat/2.png"]),
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
    "flat class folders": (SEEDED, {"num_test": 6}, (CATS_AND_DOGS, KEPT, [], None)),
    "flat class folders beside other files, in a wrapping folder": (
        {f"set/{name}": content for name, content in (SEEDED | files("LICENSE", "notes.txt", "5.png")).items()},
        {"num_test": 6},
        (CATS_AND_DOGS, KEPT, [], None),
    ),
    "other folders beside splits": (
        files(*TRAIN, "test/cat/3.png", "docs/logo.png", "docs/more/logo.png"),
        {},
        (CATS_AND_DOGS, ["cat/1.png", "dog/2.png"], [], ["cat/3.png"]),
    ),
    "unlabelled images in test": (
        {f"train/{name}": content for name, content in SEEDED.items()} | files("test/1.png", "docs/logo.png"),
        {"num_test": 6},
        (CATS_AND_DOGS, KEPT, [], None),
    ),
    "classes that are called like all splits": (
        {f"{cls}/{n}.png": b"" for cls in ("car", "train", "test") for n in (1, 2, 3)},
        {"layout": "classes", "num_test": 3},
        (["car", "test", "train"], None, [], None),
    ),
    "a folder train in train": (
        files("train/train/1.jpg", "train/train/2.jpg", "test/test/1.jpg")
        | {"train.csv": table("id label", "1 cat", "2 dog"), "test.csv": table("id label", "1 dog")},
        {},
        (CATS_AND_DOGS, ["cat/train/train/1.jpg", "dog/train/train/2.jpg"], [], ["dog/test/test/1.jpg"]),
    ),
    "hidden files": (
        files(
            *TRAIN,
            "test/cat/3.png",
            "train/.cache/4.png",
            ".git/5.png",
            "__MACOSX/train/cat/6.png",
            "train/cat/._1.png",
            "train/@eaDir/7.png",
            "train/cat/#recycle/8.png",
            "test/lost+found/9.png",
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
        {f"train/{name}": content for name, content in SEEDED.items()} | files("docs/logo.png"),
        {"layout": "splits"},
        (CATS_AND_DOGS, None, [], None),
    ),
    "Tiny ImageNet": (
        {
            **files("train/n01/images/a.JPEG", "train/n02/images/b.JPEG", "val/images/v.JPEG", "test/images/t.JPEG"),
            **files("val/images/u\u0308.JPEG"),
            "val/val_annotations.txt": "v.JPEG\tn02\t0\t0\t9\t9\n\u00fc.JPEG\tn01\r\n".encode(),
            "wnids.txt": b"n01",
        },
        {},
        (["n01", "n02"], ["n01/images/a.JPEG", "n02/images/b.JPEG"], [], ["n01/u\u0308.JPEG", "n02/v.JPEG"]),
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
    "Kaggle: train_images and test_images": (
        {
            **files("train_images/1.jpg", "train_images/2.jpg", "train_images/3.jpg", "test_images/9.jpg"),
            "train.csv": table("id_code diagnosis split", "1 0 val", "2 0 train", "3 1 train"),
            "test.csv": table("id_code size", "9 8"),
        },
        {},
        (["0", "1"], ["0/train_images/2.jpg", "1/train_images/3.jpg"], [], ["0/train_images/1.jpg"]),
    ),
    "one table for the images of all splits": (
        files("train/1.jpg", "valid/2.jpg", "test/3.jpg", "train/4.jpg")
        | {"labels.csv": table("id breed", "1 cat", "2 cat", "3 cat", "4 dog")},
        {},
        (CATS_AND_DOGS, ["cat/train/1.jpg", "dog/train/4.jpg"], ["cat/valid/2.jpg"], ["cat/test/3.jpg"]),
    ),
    "a table of each split, beside the images": (
        {
            **files("1.png", "2.png", "3.png", "4.png"),
            "train.csv": table("image breed set", "1.png cat old", "2.png dog new"),  # a set that is no split
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
    "metadata.jsonl in each split's folder": (
        {
            **files("train/1.png", "train/2.png", "test/1.png"),
            "train/metadata.jsonl": lines({"file_name": "1.png", "label": 0}, {"file_name": "2.png", "label": 1}),
            "test/metadata.jsonl": lines({"file_name": "1.png", "label": 1, "note": "no\u2028class\x85"}),
        },
        {},
        (["0", "1"], ["0/train/1.png", "1/train/2.png"], [], ["1/test/1.png"]),
    ),
    "a column for each class": (
        {
            **files("images/1.png", "images/2.png", "images/3.png"),
            "train.csv": table("image_id split cat dog", "1 train 1 0", "2 train 0.0 1.0", "3 test 1 0"),
        },
        {},
        (CATS_AND_DOGS, ["cat/images/1.png", "dog/images/2.png"], [], ["cat/images/3.png"]),
    ),
    "one of two tables": (
        {
            **files("images/1.png", "images/2.png", "images/3.png", "images/4.png"),
            "a.csv": table("id label split", "1 cat train", "2 cat test", "3 cat val", "4 dog train"),
            "b.csv": table("id label", "1 dog", "2 dog", "3 dog"),
        },
        {"labels": "a.csv"},
        (CATS_AND_DOGS, ["cat/images/1.png", "dog/images/4.png"], ["cat/images/3.png"], ["cat/images/2.png"]),
    ),
    "accents of a class that two systems write differently": (
        files("train/Bl\u00fcte/1.png", "train/dog/2.png", "test/Blu\u0308te/3.png"),
        {},
        (["Bl\u00fcte", "dog"], ["Bl\u00fcte/1.png", "dog/2.png"], [], ["Blu\u0308te/3.png"]),
    ),
    "accents of an image that its table writes differently": (
        files("images/u\u0308.png", "images/2.png", "images/3.png")
        | {"a.csv": table("id label split", "\u00fc.png cat train", "2.png dog train", "3.png dog test")},
        {},
        (CATS_AND_DOGS, ["cat/images/\u00fc.png", "dog/images/2.png"], [], ["dog/images/3.png"]),
    ),
}
PARQUET, ARROW = "data/{}-00000-of-00001-0ab1.parquet", "{}/data-00000-of-00001.arrow"
HUB = {  # read from a folder alone
    "Parquet as on the Hub": (
        {
            PARQUET.format("train"): parquet([1, 0], ["owl", "cat"]),
            PARQUET.format("validation"): parquet([0], ["owl", "cat"]),
            PARQUET.format("test"): parquet([-1, 1], ["owl", "cat"]),
            "README.md": b"",
        },
        {},
        (
            ["cat", "owl"],
            [f"cat/{PARQUET}/000000".format("train"), f"owl/{PARQUET}/000001".format("train")],
            [f"owl/{PARQUET}/000000".format("validation")],
            [f"cat/{PARQUET}/000001".format("test")],
        ),
    ),
    "Parquet beside figures": (
        {PARQUET.format("train"): parquet([1, 0], ["owl", "cat"]), PARQUET.format("test"): parquet([1], ["owl", "cat"])}
        | files("docs/images/figure.png"),
        {},
        (
            ["cat", "owl"],
            [f"cat/{PARQUET}/000000".format("train"), f"owl/{PARQUET}/000001".format("train")],
            [],
            [f"cat/{PARQUET}/000000".format("test")],
        ),
    ),
    "save_to_disk": (
        {
            ARROW.format("train"): arrow([0, 1], ["cat", "owl"]),
            ARROW.format("test"): arrow([1], ["cat", "owl"]),
            "train/cache-12ab.arrow": b"",
            "train/state.json": b"{}",
            "dataset_dict.json": b"{}",
        },
        {},
        (
            ["cat", "owl"],
            [f"cat/{ARROW}/000000".format("train"), f"owl/{ARROW}/000001".format("train")],
            [],
            [f"owl/{ARROW}/000000".format("test")],
        ),
    ),
    "Parquet of pandas, whose labels are categories": (
        {
            "train.parquet": parquet(pa.array(["owl", "cat"]).dictionary_encode()),
            "test.parquet": parquet(pa.array(["cat"]).dictionary_encode()),
        },
        {},
        (["cat", "owl"], ["cat/train.parquet/000001", "owl/train.parquet/000000"], [], ["cat/test.parquet/000000"]),
    ),
    "save_to_disk without splits, labels are texts": (
        {"data-00000-of-00001.arrow": arrow(["cat", "cat", "cat", "owl", "owl", "owl"])},
        {"num_test": 2},
        (["cat", "owl"], None, [], None),
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
    "two wrapping folders": (
        files(*TRAIN, "test/cat/3.png", under="a/b/"),
        {},
        r"holds its splits below a/b/; name that folder in data\.path, or pack it without",
    ),
    "too few to test": (
        files("cat/1.png", "cat/2.png", "dog/1.png"),
        {},
        "class dog in .* has 1 images, and no test set is",
    ),
    "too many to test": (
        {name: content for name, content in SEEDED.items() if "5" not in name},
        {"num_test": 6},
        r"6 images of .* are drawn to test, which leaves less than two of class cat, one to train and one to validate: draw fewer "
        r"\(override: data\.num_test=4\)",
    ),
    "one class, beside boxes that are not read": (
        files("train/images/1.png", "train/labels/1.txt", "test/images/2.png", "test/labels/2.txt"),
        {},
        r"all training images in .* are of one class, images; .*train/<class>/\*, or read boxes .*\(override: data=boxes\)",
    ),
    "classes with accents in two ways": (
        files(*(f"{cls}/{n}.png" for cls in ("M\u00fcll", "Mu\u0308ll") for n in (1, 2, 3))),
        {},
        "differ only in case or in how accents are written",
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
    "two columns of numbers that name images": (
        IMAGES | {"a.csv": b",id,label\n1,2,cat\n2,1,dog\n"},
        {},
        r"columns 1 \(\) and 2 \(id\) of a\.csv in .* both name images, but not the same ones; remove the column that is not",
    ),
    "numbers of rows beside file names, of which one is wrong": (
        IMAGES | {"a.csv": b",file,label\n1,2.png,cat\n2,9.png,dog\n"},
        {},
        r"columns 1 \(\) and 2 \(file\) of a\.csv in .* both name images",
    ),
    "a split that is none": (
        IMAGES | {"a.csv": table("id label split", "1 cat train", "2 dog tset")},
        {},
        r"2 of a\.csv has split=tset; write one of train, test, val, or remove the row",
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
    "an image of two classes": (
        IMAGES | {"a.csv": table("id cat dog", "1 1 0", "2 1 1")},
        {},
        r"2 of a\.csv, which has a column for each class, is not of exactly one; each image needs one class",
    ),
    "no JSON lines": (
        IMAGES | {"a.jsonl": b'{"file_name": "1.png", "label": "cat"}\n[2, "dog"]\n'},
        {},
        r"line 2 of a\.jsonl in .* is no JSON object",
    ),
    "no CSV": (IMAGES | {"a.csv": b"id,label\n\xff,1"}, {}, r"a\.csv in .* is no CSV in UTF-8"),
    "labels that are no table": (
        IMAGES | {"a.csv": table("id label", "1 cat")},
        {"labels": "b.csv"},
        r"data\.labels=b\.csv is no table that names images of .*; its tables and their columns are a\.csv \(id, label\)",
    ),
    "a table that names no image": (
        IMAGES | {"a.csv": table("picture label", "8 cat", "9 dog")},
        {},
        r"no table that names each of its images once; its tables and their columns are a\.csv \(picture, label\); name the",
    ),
    "an image of Tiny ImageNet without its label": (
        files(*TRAIN, "val/images/v.JPEG") | {"val/val_annotations.txt": b"w.JPEG\tcat\n"},
        {},
        r"val/images/v\.JPEG in .* has no label in val_annotations\.txt",
    ),
}


ROW = {"data/train-0.parquet": parquet([0, 1], ["cat", "owl"])}
REFUSED_ROWS = {
    "several labels": (
        {"train.parquet": parquet([0, 1], None, ("image", "fine_label", "coarse_label"))},
        {},
        r"the columns image, fine_label, coarse_label, .* call them image and label",
    ),
    "one class": (
        {"train.parquet": parquet(["cat"] * 3)},
        {},
        r"all training images in .* are of one class, cat; arrange",
    ),
    "no bytes": ({"train.parquet": parquet(["cat", "lost"])}, {}, r"has a row without the bytes of an image; save"),
    "more labels than classes": (
        {"train.parquet": parquet([0, 7], ["cat"])},
        {},
        r"damaged .* \(a label 7 with 1 classes\); save or download it again",
    ),
    "no Parquet": (
        {"train.parquet": b"version https://git-lfs"},
        {},
        r"train\.parquet in .* is damaged or no such file",
    ),
    "no Arrow": (
        {"data-00000-of-00001.arrow": arrow([0, 1])[:300]},
        {},
        r"data-00000-of-00001\.arrow in .* is damaged or no such file as",
    ),
    "more bytes than data.limits allow": (ROW, {"limits": LimitsConfig(total_gb=1e-9)}, r"data\.limits\.total_gb"),
}


def packed(kind: str, folder: Path, content: dict[str, bytes]) -> Path:
    if kind == "tar":
        (folder / "set.tar").write_bytes(tar(content))
        return folder / "set.tar"
    for name, data in content.items():
        (folder / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set" / name).write_bytes(data)
    return folder / "set"


BOTH = ("tar", "folder")


@pytest.mark.parametrize(("layout", "kind"), [*product(READ, BOTH), *product(HUB, ["folder"])])
def test_a_layout_gives_classes_and_splits_alike_from_an_archive_and_a_folder(layout, kind, tmp_path):
    content, changes, expected = (READ | HUB)[layout]
    path = packed(kind, tmp_path, content)
    with open_published("class-folders", [path], tmp_path, config(**changes)) as published:
        found = places(published)
        for image in (*published.train, *published.test):
            label = published.classes[image.label]
            assert image.image.read() == content.get(image.image.name, label.encode())
    assert found == tuple(have if want is None else want for have, want in zip(found, expected, strict=True))
    assert {*tmp_path.iterdir()} == {path}


@pytest.mark.parametrize(("layout", "kind"), [*product(REFUSED, BOTH), *product(REFUSED_ROWS, ["folder"])])
def test_a_layout_that_is_unclear_is_refused_with_what_to_do(layout, kind, tmp_path):
    content, changes, sentence = (REFUSED | REFUSED_ROWS)[layout]
    path = packed(kind, tmp_path, content)
    with (
        pytest.raises(ValueError, match=sentence) as caught,
        open_published("class-folders", [path], tmp_path, config(**changes)),
    ):
        pass
    assert str(caught.value).isprintable()


def test_numbers_of_rows_as_pandas_writes_them_shuffle_no_labels(tmp_path):
    numbers = sorted(range(12), key=str)
    classes = {f"{n}.jpg": "cat" if n < 5 else "dog" for n in numbers}
    rows = [f"{row},{n}.jpg,{classes[f'{n}.jpg']}" for row, n in enumerate(numbers)]
    content = files(*classes) | {"labels.csv": "\n".join([",filename,label", *rows]).encode()}
    with open_published("class-folders", [packed("tar", tmp_path, content)], tmp_path, config()) as published:
        images = (*published.train, *published.test)
        assert {image.image.name: published.classes[image.label] for image in images} == classes


def test_tables_of_rows_in_an_archive_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"train-0\.parquet is packed in .*set\.tar; unpack that, and give the folder"):
        listed("class-folders", packed("tar", tmp_path, ROW))


NOTES = {
    "train and test": [],
    "train, val and test": [
        "the 1 images of val are the validation split; data.num_val and data.split_seed do not apply"
    ],
    "train and val": ["val is the test set, since there is no test; data.num_val images of train validate"],
    "train alone": [
        "no test set is published, so 2 of 10 images, drawn by class with a fixed seed, are the test set (data.num_test)"
    ],
}


@pytest.mark.parametrize("layout", NOTES)
def test_what_was_decided_about_the_splits_is_noted(layout, tmp_path):
    content, changes, _ = READ[layout]
    with open_published("class-folders", [packed("tar", tmp_path, content)], tmp_path, config(**changes)) as published:
        assert published.notes == NOTES[layout]


LEFT_OUT = {
    "Tiny ImageNet": {"images without a label": 1},
    "Kaggle: ids in train.csv, images in folders": {"images without a label": 1, "files that end in .csv": 1},
    "save_to_disk": {"files that end in .arrow": 1, "files that end in .json": 1},
    "save_to_disk without splits, labels are texts": {},
    "Parquet as on the Hub": {"images without a label": 1},
    "folders beside the wrapping one": {"images outside set/": 1},
    "a wrapping folder": {"images outside train/, test/ and val/": 1},
}


@pytest.mark.parametrize("layout", LEFT_OUT)
def test_what_a_layout_leaves_out_is_counted(layout, tmp_path):
    content, changes, _ = (READ | HUB)[layout]
    path = packed("folder" if layout in HUB else "tar", tmp_path, content)
    with open_published("class-folders", [path], tmp_path, config(**changes)) as published:
        assert {what: number for what, number, _ in published.left_out} == LEFT_OUT[layout]
