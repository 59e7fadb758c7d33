"""The records of a data set as a reader lists them."""

from __future__ import annotations

from pathlib import Path

from photos import tar

from pipeline.config import LimitsConfig
from pipeline.data.archives import Entry
from pipeline.data.readers import open_published


def listed(layout: str, *paths: Path, num_test: int = 0):
    """Classes, and of each record its name, label and bytes or pixels."""
    with open_published(layout, list(paths), paths[0].parent, LimitsConfig(), num_test) as published:
        return published.classes, *(
            [(r.name, r.label, r.image.read() if isinstance(r.image, Entry) else r.image) for r in records]
            for records in (published.train, published.test)
        )


def named(folder: Path, *names: str) -> Path:
    """A tar of files that hold their own names."""
    path = folder / "set.tar"
    path.write_bytes(tar({name: name.encode("utf-8", "surrogateescape") for name in names}))
    return path
