"""ImageNet's official files: the train tar (which holds a tar per class), the val tar and the devkit."""

from __future__ import annotations

import io
from collections.abc import Iterator

from pipeline.data.archives import Container, Entry
from pipeline.data.listing import is_image
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
    """Wnid of each leaf class by its ILSVRC2012_ID, and the ID of each validation image in the order of names.

    SciPy does not survive every damaged file, but `sources.fetched` has compared the devkit's MD5.
    """
    from scipy.io import loadmat

    entries = {end: entry for entry in devkit.entries() for end in (_META, _TRUTH) if entry.name.endswith(end)}
    synsets = loadmat(io.BytesIO(entries[_META].read()), squeeze_me=True)["synsets"]
    wnids = {int(s["ILSVRC2012_ID"]): str(s["WNID"]) for s in synsets if s["num_children"] == 0}
    return wnids, [int(line) for line in entries[_TRUTH].read().split()]
