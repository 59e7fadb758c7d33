from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from photos import tar
from records import config, listed, named

from pipeline.data.readers import open_published
from pipeline.data.records import MOST_KINDS


def test_class_folders_are_sorted_by_class_and_name(tmp_path):
    path = named(tmp_path, "train/dog/2.png", "test/cat/1.jpg", "train/cat/9.png", "train/dog/10.JPEG")
    classes, train, test = listed("class-folders", path)
    assert classes == ["cat", "dog"]
    assert [(name, label) for name, label, _ in train] == [("cat/9.png", 0), ("dog/10.JPEG", 1), ("dog/2.png", 1)]
    assert test == [("cat/1.jpg", 0, b"test/cat/1.jpg")]


def test_val_is_the_test_set_only_where_there_is_no_test(tmp_path):
    names = ["train/cat/1.png", "train/dog/4.png", "val/cat/2.png"]
    assert [n for n, *_ in listed("class-folders", named(tmp_path, *names))[2]] == ["cat/2.png"]
    names.append("test/cat/3.png")
    _, train, test = listed("class-folders", named(tmp_path, *names))
    assert [n for n, *_ in train] == ["cat/1.png", "cat/2.png", "dog/4.png"]
    assert [n for n, *_ in test] == ["cat/3.png"]


def test_one_folder_around_the_set_deeper_folders_and_strangers_are_tolerated(tmp_path):
    names = ["set/train/cat/images/1.png", "set/val/cat/2.png", "set/train/cat/boxes.txt", "set/README.md"]
    names += ["set/train/cat/._1.png", "__MACOSX/train/cat/1.png", "set/train/loose.png", ".hidden/train/cat/1.png"]
    _, train, test = listed("class-folders", named(tmp_path, *names, "set/train/dog/3.png"))
    assert [name for name, *_ in train] == ["cat/images/1.png", "dog/3.png"] and len(test) == 1


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["val/cat/1.png"], r"no images in train/<class>/\*"),
        (
            [f"train/{file}.png" for file in ("cat/1", "cat/2", "dog/1", "dog/2", "dog/3")],
            "class cat in .* has 2 images, and no test set is published",
        ),
        (["train/cat/1.png", "train/dog/1.png", "test/elk/1.png"], "is of class elk, which train/ does not have"),
        (["train/cat/1.png", "train/cat/1.png", "train/dog/1.png", "test/cat/1.png"], "occurs twice"),
    ],
)
def test_other_layouts_are_refused(names, sentence, tmp_path):
    (tmp_path / "set.tar").write_bytes(tar({}, tuple(tarfile.TarInfo(name) for name in names)))
    with pytest.raises(ValueError, match=sentence):
        listed("class-folders", tmp_path / "set.tar")


def test_cifar_and_imagenet_as_class_folders_need_a_published_test_set(tmp_path):
    path = named(tmp_path, *(f"train/{cls}/{n}.png" for cls in ("cat", "dog") for n in range(9)))
    with pytest.raises(ValueError, match=r"no images in test/<class>/\* or val/<class>/\*; arrange them like this"):
        listed("class-folders", path, source="imagenet")
    assert len(listed("class-folders", path)[2]) == 3


GOOD = ["train/cat/1.png", "train/dog/1.png", "test/cat/1.png"]


def left_out(path: Path) -> dict[str, tuple[int, str]]:
    with open_published("class-folders", [path], path.parent, config()) as published:
        return {what: (count, example) for what, count, example in published.left_out}


def test_what_is_left_out_is_counted_by_kind(tmp_path):
    strangers = [
        "train/cat/a.txt",
        "train/dog/b.txt",
        "train/cat/LICENSE",
        "test/0.jpg",
        "docs/logo.png",
        "train/x.tar",
    ]
    assert left_out(named(tmp_path, *GOOD, *strangers, "notes.txt", "train/.DS_Store")) == {
        "files that end in .txt": (2, "train/cat/a.txt"),
        "files that end in .tar": (1, "train/x.tar"),
        "files without an extension": (1, "train/cat/LICENSE"),
        "images beside the class folders of test/": (1, "test/0.jpg"),
        "images outside train/, test/ and val/": (1, "docs/logo.png"),
    }


def test_kinds_left_out_are_told_apart_up_to_a_number(tmp_path):
    strangers = left_out(named(tmp_path, *GOOD, *(f"train/cat/x.{n}" for n in range(100))))
    assert len(strangers) == MOST_KINDS + 1 and strangers["files of still other kinds"][0] == 100 - MOST_KINDS


@pytest.mark.parametrize("ending", ["jfif", "JPE", "apng", "pnm", "heic", "AVIF", "cr2"])
def test_images_of_all_kinds_are_listed_those_that_are_not_read_too_so_that_decoding_names_them(ending, tmp_path):
    _, train, _ = listed("class-folders", named(tmp_path, *GOOD, f"train/cat/x.{ending}"))
    assert f"cat/x.{ending}" in [name for name, *_ in train]


@pytest.mark.parametrize("name", ["train/elk/1.txt", "train/elk/", "test/dog/1.mp4", "set/train/elk/"])
def test_a_class_without_an_image_is_named(name, tmp_path):
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
    top = "set/" if name.startswith("set") else ""
    (tmp_path / "set.tar").write_bytes(tar({top + good: b"x" for good in GOOD}, (info,)))
    with pytest.raises(
        ValueError, match=r"1 class folders in .* hold no image: (train/elk|test/dog)/ \(\d other files\)"
    ):
        listed("class-folders", tmp_path / "set.tar")


@pytest.mark.parametrize("odd", ["\x1b[31m", "\n", "\x85", "\u2028", "\u202e", "\udce9"])
@pytest.mark.parametrize("place", ["train/cat{0}/1.png", "train/cat/1{0}.png", "test/d{0}g/1.png"])
def test_a_name_that_does_not_print_is_refused_in_one_printable_line(place, odd, tmp_path):
    name = place.format(odd)
    with pytest.raises(ValueError, match="holds control characters or is no UTF-8; rename") as caught:
        listed("class-folders", named(tmp_path, *GOOD, name))
    assert str(caught.value).isprintable()


def test_files_that_are_no_images_may_have_any_name_and_images_any_printed_one(tmp_path):
    names = [*GOOD, "train/cat/Icon\r", "train/cat/caf\udce9.txt", "train/猫 🐈\u200d⬛ $x_1$/%{}.png"]
    assert "猫 🐈\u200d⬛ $x_1$" in listed("class-folders", named(tmp_path, *names))[0]


@pytest.mark.parametrize(("one", "other"), [("Cat", "cat"), ("STRASSE", "stra\u00dfe"), ("Mu\u0308ll", "M\u00fcll")])
def test_classes_that_some_systems_keep_in_one_folder_are_refused(one, other, tmp_path):
    names = [f"{split}/{name}/1.png" for split in ("train", "test") for name in (one, other)]
    with pytest.raises(ValueError, match=f"classes {one} and {other} .* differ only in case or in how accents"):
        listed("class-folders", named(tmp_path, *sorted(names)))
