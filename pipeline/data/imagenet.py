"""ImageNet's official files: the train tar (which holds a tar per class), the val tar and the devkit."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from pipeline.data.archives import Container, Entry
from pipeline.data.listing import is_image
from pipeline.data.matlab import MatlabError, read_variables
from pipeline.data.records import Account, Published, Record
from pipeline.data.tars import Tar
from pipeline.errors import PipelineError, printable

_META, _TRUTH = "data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"


def ilsvrc(tars: list[Container]) -> Published:
    """The records; a label is the rank of its class's wnid.

    Raises:
        PipelineError: a file is damaged, or the three do not belong together.
    """
    train_tar, val_tar, devkit = tars
    assert isinstance(train_tar, Tar)
    wnids, truth = _devkit(devkit)
    classes = sorted(wnids.values())
    labels = {wnid: label for label, wnid in enumerate(classes)}
    train = list(_train_records(train_tar, labels))
    images: list[tuple[str, Entry]] = []
    others = Account()
    for entry in val_tar.entries():
        if is_image(entry.name):
            images.append((entry.name.rsplit("/", 1)[-1], entry))
        else:
            others.add(f"files of {val_tar.path.name} that are no images", entry.name)
    if len(images) != len(truth):
        raise PipelineError(
            f"{val_tar.path} holds {len(images)} images, but the devkit labels {len(truth)}; get both anew"
        )
    test = []
    for number, (file, entry) in zip(truth, sorted(images), strict=True):
        test.append(Record(f"{wnids[number]}/{file}", labels[wnids[number]], entry))
    return Published(classes, train, test, others.left_out())


def _train_records(tar: Tar, labels: dict[str, int]) -> Iterator[Record]:
    missing = set(labels)
    for inner in tar.entries():
        wnid = inner.name.rsplit("/", 1)[-1].removesuffix(".tar")
        if wnid not in labels:
            raise PipelineError(
                f"{printable(inner.name)} in {tar.path} belongs to no class of the devkit; get both anew"
            )
        for entry in tar.inside(inner):
            missing.discard(wnid)
            yield Record(f"{wnid}/{entry.name.rsplit('/', 1)[-1]}", labels[wnid], entry)
    if missing:
        raise PipelineError(
            f"{tar.path} lacks {len(missing)} of the devkit's classes, {min(missing)} the first; get it anew"
        )


def _devkit(devkit: Container) -> tuple[dict[int, str], list[int]]:
    """Wnid of each leaf class by its ILSVRC2012_ID, and the ID of each validation image in the order of names."""
    entries = {end: entry for entry in devkit.entries() for end in (_META, _TRUTH) if entry.name.endswith(end)}
    if len(entries) < 2:
        raise PipelineError(f"{devkit.path} lacks {_META} or {_TRUTH}; get ILSVRC2012_devkit_t12.tar.gz anew")
    try:
        wnids = _leaves(read_variables(entries[_META].read()).get("synsets"))
        truth = _ids(entries[_TRUTH].read(), wnids)
    except MatlabError as error:
        raise PipelineError(
            f"the devkit {devkit.path} is damaged or another one ({printable(error)}); get ILSVRC2012_devkit_t12.tar.gz anew"
        ) from None
    return wnids, truth


def _leaves(synsets: Any) -> dict[int, str]:
    """Wnid by ID of the synsets without children, which are the classes."""
    wnids: dict[int, str] = {}
    seen: set[str] = set()
    if not isinstance(synsets, list) or not synsets:
        raise MatlabError("no synsets in meta.mat")
    for synset in synsets:
        if not isinstance(synset, dict):
            raise MatlabError("the synsets of meta.mat are no structs")
        number, children = (_number(synset.get(key)) for key in ("ILSVRC2012_ID", "num_children"))
        wnid = synset.get("WNID")
        if not isinstance(wnid, str) or not re.fullmatch(r"n\d{1,12}", wnid, re.ASCII):
            raise MatlabError(f"a synset with the WNID {printable(wnid, 40)}")
        if children == 0:
            if number in wnids or wnid in seen:
                raise MatlabError(f"two synsets with the ID {number} or the WNID {wnid}")
            seen.add(wnid)
            wnids[number] = wnid
    if len(wnids) < 2:
        raise MatlabError(f"{len(wnids)} classes in meta.mat")
    return wnids


def _number(value: Any) -> int:
    if not isinstance(value, list) or len(value) != 1 or not isinstance(value[0], int | float):
        raise MatlabError("a synset without ILSVRC2012_ID or num_children")
    if not 0 <= value[0] < 1e6 or value[0] != int(value[0]):
        raise MatlabError(f"a synset with the number {value[0]}")
    return int(value[0])


def _ids(text: bytes, wnids: dict[int, str]) -> list[int]:
    ids = []
    for line in text.split():
        if not line.isdigit() or len(line) > 6 or int(line) not in wnids:
            raise MatlabError(
                f"the ground truth names class {printable(line.decode('latin1'), 20)}, which meta.mat lacks"
            )
        ids.append(int(line))
    return ids
