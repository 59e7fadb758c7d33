"""PASCAL VOC as published: VOCdevkit/VOC2007 and VOC2012, each with Annotations/, ImageSets/Main/ and JPEGImages/.

Trained on is trainval of every year that is there, tested on the test set of 2007, the only one whose annotations are
published. Without a test set, train trains and val tests.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePosixPath
from xml.etree import ElementTree

from pipeline.data.annotated import Picture, Thing, published
from pipeline.data.archives import Container, Entry
from pipeline.data.records import Account, Published
from pipeline.errors import PipelineError, printable

CLASSES = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
MOST = 2**31 - 1  # pixels of a side


def voc(containers: list[Container]) -> Published:
    """The data set of a folder VOCdevkit, or of the published archives.

    Raises:
        PipelineError: no list of a set, an image or annotations that are not there, damaged annotations, a class that is
            none of CLASSES; as `annotated.published`.
    """
    path, account = containers[0].path, Account()
    years: dict[str, dict[str, Entry]] = defaultdict(dict)  # the files of a year, by their path in its folder
    for entry in (entry for container in containers for entry in container.entries()):
        parts = PurePosixPath(entry.name).parts
        at = next((at for at, part in enumerate(parts) if part.startswith("VOC2")), None)
        if at is not None:
            years[parts[at]]["/".join(parts[at + 1 :])] = entry
    tested = {year for year, files in years.items() if _annotated(files, "test")}
    roles = {"trainval": "train", "test": "test"} if tested else {"train": "train", "val": "test"}
    pictures: list[Picture] = []
    for year, files in sorted(years.items()):
        for name, role in roles.items():
            if name != "test" or year in tested:
                pictures += [_picture(files, year, image, role) for image in _listed(files, name)]
    if not {"train", "test"} <= {picture.role for picture in pictures}:
        raise PipelineError(
            f"{path} holds no VOC2007 or VOC2012 with ImageSets/Main/trainval.txt and test.txt, or train.txt and val.txt; lay the "
            "folder VOCdevkit or its archives there"
        )
    return published(path, pictures, CLASSES, 0, account)


def _listed(files: dict[str, Entry], name: str) -> list[str]:
    """The images of a set, in its order."""
    entry = files.get(f"ImageSets/Main/{name}.txt")
    return entry.read().decode(errors="replace").split() if entry else []


def _annotated(files: dict[str, Entry], name: str) -> bool:
    """Whether annotations of a set are there; of the test set of 2012, only images are published."""
    return any(f"Annotations/{image}.xml" in files for image in _listed(files, name)[:1])


def _picture(files: dict[str, Entry], year: str, name: str, role: str) -> Picture:
    try:
        image, annotations = files[f"JPEGImages/{name}.jpg"], files[f"Annotations/{name}.xml"]
    except KeyError as missing:
        container = next(iter(files.values())).container
        raise PipelineError(
            f"{container.path} lists image {printable(name)} of {year}, but {missing.args[0]} is not there; unpack or download it again"
        ) from None
    text = annotations.read()
    try:
        root = ElementTree.fromstring(text)
        size = (_pixels(root, "size/width"), _pixels(root, "size/height"))
        things = [_thing(number, each) for number, each in enumerate(root.iter("object"), 1)]
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last for an encoding that nobody knows
        raise PipelineError(
            f"{printable(annotations.name)} in {annotations.container.path} is damaged ({error}); unpack or download it again"
        ) from None
    if own := [thing for thing in things if thing.cls not in CLASSES]:
        raise PipelineError(
            f"{own[0].what} of {printable(annotations.name)} in {annotations.container.path} is of class {printable(own[0].cls)}, "
            "which is none of VOC's 20 classes; bring own classes in COCO's format (override: data=boxes)"
        )
    return Picture(role, image, size, things)


def _thing(number: int, element: ElementTree.Element) -> Thing:
    left, top, right, bottom = (float(_text(element, f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
    # Pixels are counted from 1, and the last one belongs to the box.
    difficult = element.findtext("difficult", "0").strip() == "1"
    return Thing(_text(element, "name"), (left - 1, top - 1, right, bottom), difficult, f"object {number}")


def _pixels(element: ElementTree.Element, path: str) -> int:
    text = _text(element, path)
    if not 0 < (pixels := int(text)) <= MOST:
        raise ValueError(f"{path} is {printable(text)}")
    return pixels


def _text(element: ElementTree.Element, path: str) -> str:
    text = element.findtext(path)
    if text is None:
        raise ValueError(f"{path} is missing")
    return text.strip()
