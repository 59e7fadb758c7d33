"""COCO's JSON: files with `images`, `annotations` and `categories`, as COCO, Roboflow, CVAT and Label Studio write it.

https://cocodataset.org/#format-data. The file's name says which split it annotates (instances_train2017.json), or else its
folder's (train/_annotations.coco.json). COCO itself also publishes captions and keypoints; then only instances_* count.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.config.section import shown
from pipeline.data.annotated import Picture, Thing, published
from pipeline.data.archives import Container, Entry, hidden
from pipeline.data.listing import is_image, kind
from pipeline.data.records import Account, Published, composed
from pipeline.data.roles import role
from pipeline.errors import PipelineError, printable

PARTS = ("images", "annotations", "categories")
INSTANCES = "instances_"
MOST = 2**31 - 1  # pixels of a side
Id = int | float | str
# The published lists of 2014, by which trainval35k trains and minival tests: the same images as train and val of 2017.
_LISTS = {"valminusminival": "train", "minival": "test"}


def coco(containers: list[Container], num_test: int) -> Published:
    """The data set of one folder or archive, or of COCO's several archives.

    Args:
        num_test: as in `annotated.published`.
    Raises:
        PipelineError: no annotations, damaged ones, an id that occurs twice, a class or an image that is not there; as
            `annotated.published`.
    """
    path, account = containers[0].path, Account()
    images: dict[str, list[Entry]] = defaultdict(list)  # by file name without folders, composed
    files: list[Entry] = []
    for entry in (entry for container in containers for entry in container.entries()):
        last = PurePosixPath(entry.name).name
        if hidden(entry.name.split("/")):
            continue
        if is_image(last):
            images[composed(last)].append(entry)
        elif last.endswith(".json"):
            files.append(entry)
        else:
            account.add(kind(last), entry.name)
    pictures: list[Picture] = []
    numbers: dict[str, Id] = {}  # of the classes; a file has ids of its own, and the first one's decide the order
    for split, entry in _annotations(path, files, account):
        document = _document(entry)
        categories = _by_id(entry, document, "categories", "name")
        classes = {number: composed(str(row["name"])) for number, row in categories.items()}
        numbers |= {name: number for number, name in classes.items() if name not in numbers}
        pictures += _pictures(split, entry, document, images, classes)
    annotated = {id(picture.image) for picture in pictures}
    for entry in (entry for entries in images.values() for entry in entries if id(entry) not in annotated):
        account.add("images that no annotations name", entry.name)
    return published(path, pictures, sorted(numbers, key=lambda name: _order(numbers[name])), num_test, account)


def _annotations(path: Path, files: list[Entry], account: Account) -> list[tuple[str, Entry]]:
    """Each file of annotations with the role of its images; train alone needs no name."""
    if instances := [entry for entry in files if PurePosixPath(entry.name).name.startswith(INSTANCES)]:
        for entry in files:
            if entry not in instances:
                account.add("annotations other than instances_*.json", entry.name)
        files = instances
    if not files:
        raise PipelineError(
            f"{path} holds no annotations; COCO's format has them in .json files, such as instances_train.json"
        )
    stems = [_stem(entry) for entry in files]
    if set(_LISTS) & set(stems):  # which together are val of 2014
        for entry in [entry for entry, stem in zip(files, stems, strict=True) if stem == "val"]:
            account.add("annotations of all of val, of which lists choose parts", entry.name)
            files.remove(entry)
    roles = {entry: _role(entry) for entry in files}
    if len(files) == 1:
        roles[files[0]] = "train"
    for entry, split in roles.items():
        if not split:
            raise _error(
                entry, "has no name of a split; name it train.json, val.json or test.json, or lay it into such a folder"
            )
    if "train" not in roles.values():
        raise PipelineError(
            f"{path} holds annotations of {' and '.join(sorted(set(roles.values())))} alone; add those of train"
        )
    return [(roles[entry], entry) for entry in sorted(files, key=lambda entry: entry.name)]


def _stem(entry: Entry) -> str:
    return re.sub(r"\d+$", "", PurePosixPath(entry.name).stem.removeprefix(INSTANCES))


def _role(entry: Entry) -> str:
    words = [word for word in re.split(r"[^a-z]+", PurePosixPath(entry.name).stem.lower()) if word]
    folders = [part.lower() for part in PurePosixPath(entry.name).parts[-2::-1]]
    return next((match for word in (*words, *folders) if (match := _LISTS.get(word) or role(word))), "")


def _document(entry: Entry) -> dict[str, Any]:
    text = entry.read()
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:  # no JSON, no UTF-8, or nested without an end
        raise _error(entry, f"is no JSON ({error})") from None
    if not isinstance(document, dict) or not all(isinstance(document.get(part), list) for part in PARTS):
        raise _error(entry, f"lacks one of the lists {', '.join(PARTS)}")
    return document


def _order(number: Id) -> tuple[bool, Id]:
    return isinstance(number, str), number


def _by_id(entry: Entry, document: dict[str, Any], part: str, *keys: str) -> dict[Id, dict[str, Any]]:
    """The rows of a list, by their ids; each has these keys."""
    rows: dict[Id, dict[str, Any]] = {}
    for at, row in enumerate(document[part]):
        if not isinstance(row, dict) or not {"id", *keys} <= row.keys():
            raise _error(entry, f"has an entry of {part}, number {at}, without {' or '.join(('id', *keys))}")
        if not isinstance(row["id"], Id):
            raise _error(entry, f"has an entry of {part}, number {at}, whose id is no number and no text")
        if row["id"] in rows:
            raise _error(entry, f"has two entries of {part} with the id {printable(row['id'])}")
        rows[row["id"]] = row
    return rows


def _pictures(
    split: str, entry: Entry, document: dict[str, Any], images: dict[str, list[Entry]], classes: dict[Id, str]
) -> list[Picture]:
    pictures = {}
    ids: dict[str, Id] = {}  # of the classes that have objects: Roboflow adds an empty one of the same name
    for number, row in _by_id(entry, document, "images", "file_name", "width", "height").items():
        width, height = row["width"], row["height"]
        if not (
            isinstance(width, int) and isinstance(height, int) and 0 < min(width, height) <= max(width, height) <= MOST
        ):
            raise _error(
                entry, f"gives image {printable(number)} the size {shown(width)} x {shown(height)}; it takes pixels"
            )
        pictures[number] = Picture(split, _located(entry, split, str(row["file_name"]), images), (width, height))
    for number, row in _by_id(entry, document, "annotations", "image_id", "category_id", "bbox").items():
        what = f"annotation {printable(number)}"
        for title, key, listed in (("image", "image_id", pictures), ("category", "category_id", classes)):
            if not isinstance(row[key], Id) or row[key] not in listed:
                raise _error(entry, f"has {what} of {title} {shown(row[key])}, which it does not list")
        left, top, width, height = _numbers(entry, what, row["bbox"])
        corners = (left, top, left + width, top + height)
        crowd = bool(row.get("iscrowd") or row.get("ignore"))
        cls = classes[row["category_id"]]
        if ids.setdefault(cls, row["category_id"]) != row["category_id"]:
            raise _error(entry, f"has objects of two categories called {printable(cls)}")
        pictures[row["image_id"]].things.append(Thing(cls, corners, crowd, what))
    return list(pictures.values())


def _numbers(entry: Entry, what: str, box: Any) -> list[float]:
    try:
        left, top, width, height = map(float, box)
    except (TypeError, ValueError, OverflowError):
        raise _error(
            entry, f"has {what} with the bbox {shown(box)}; it takes four numbers: left, top, width, height"
        ) from None
    return [left, top, width, height]


def _located(entry: Entry, split: str, name: str, images: dict[str, list[Entry]]) -> Entry:
    """The image of that name: below the annotations' own folder, in one of the split's name, or the only one."""
    parts = PurePosixPath(composed(name)).parts
    named = images.get(parts[-1], []) if parts else []
    matches = [each for each in named if PurePosixPath(composed(each.name)).parts[-len(parts) :] == parts]
    folder = PurePosixPath(entry.name).parent
    for chosen in (
        [each for each in matches if PurePosixPath(each.name).is_relative_to(folder)] if str(folder) != "." else [],
        [
            each
            for each in matches
            if any(role(re.sub(r"\d+$", "", part)) == split for part in each.name.split("/")[:-1])
        ],
        matches,
    ):
        if len(chosen) == 1:
            return chosen[0]
    if matches:
        raise _error(
            entry, f"names {printable(name)}, which is {printable(matches[0].name)} or {printable(matches[1].name)}"
        )
    raise _error(entry, f"names {printable(name)}, which is not there")


def _error(entry: Entry, what: str) -> PipelineError:
    return PipelineError(f"{printable(entry.name)} in {entry.container.path} {what}; mend it and fetch again")
