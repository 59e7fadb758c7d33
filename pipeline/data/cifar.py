"""CIFAR-10 and CIFAR-100 in their official Python format: pickles of arrays, in an archive with the published MD5."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Iterator
from typing import Any

from pipeline.data.archives import Container, Entry
from pipeline.data.records import Published, Record
from pipeline.errors import PipelineError, printable

SHAPE = (3, 32, 32)  # rows of a batch: red, green and blue planes
# What the official pickles name, and the module of _reconstruct in NumPy 2.
_NAMES = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
}


def cifar(archive: Container) -> Published:
    """The records of all batches. Nothing else is checked, since `sources.fetched` has compared the archive's MD5.

    Raises:
        PipelineError: a pickle asks for code.
    """
    entries = {entry.name.rsplit("/", 1)[-1]: entry for entry in archive.entries()}
    meta = _Unpickler(entries["batches.meta" if "batches.meta" in entries else "meta"]).load()
    classes = meta["label_names" if "label_names" in meta else "fine_label_names"]

    def records(batches: str) -> list[Record]:
        names = sorted(name for name in entries if re.fullmatch(batches, name))
        return [record for name in names for record in _batch(entries[name], classes)]

    return Published(classes, records(r"data_batch_\d|train"), records("test_batch|test"))


def _batch(entry: Entry, classes: list[str]) -> Iterator[Record]:
    batch = _Unpickler(entry).load()
    images = batch["data"].reshape(-1, *SHAPE).transpose(0, 2, 3, 1)
    labels = batch["labels" if "labels" in batch else "fine_labels"]
    for image, label, file in zip(images, labels, batch["filenames"], strict=True):
        yield Record(f"{classes[label]}/{file}", label, image)


class _Unpickler(pickle.Unpickler):
    """Makes arrays and plain containers; refuses any other name before the pickle can run code."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(io.BytesIO(entry.read()), encoding="latin1")  # Python 2 wrote them: texts are bytes
        self._entry = entry

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _NAMES:
            raise PipelineError(
                f"{printable(self._entry.name)} in {self._entry.container.path} asks for {printable(module)}.{printable(name)}, "
                "which no CIFAR archive needs; get the archive anew"
            )
        return super().find_class(module, name)
