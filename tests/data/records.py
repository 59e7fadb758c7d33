"""The records of a data set as a reader lists them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from photos import tar

from pipeline.config import DataConfig
from pipeline.data.readers import open_published


def config(layout: str = "class-folders", /, **changes) -> DataConfig:
    """Of a source that fetch gives the layout."""
    source = {"digits": "digits", "cifar-pickles": "cifar10", "ilsvrc-tars": "imagenet"}.get(layout, "folder")
    path = {} if source in ("digits", "cifar10") else {"path": "set"}
    side = {"image_size": 8} if source == "digits" else {}
    return DataConfig(**{"name": "set", "source": source, **path, **side, **changes})


def listed(layout: str, /, *paths: Path, **changes):
    """Classes, and of each record its name, label and bytes or pixels."""
    with open_published(layout, list(paths), paths[0].parent, config(layout, **changes)) as published:
        return published.classes, *(
            [(r.name, r.label, r.image if isinstance(r.image, np.ndarray) else r.image.read()) for r in records]
            for records in (published.train, published.test)
        )


def named(folder: Path, *names: str) -> Path:
    """A tar of files that hold their own names."""
    path = folder / "set.tar"
    path.write_bytes(tar({name: name.encode("utf-8", "surrogateescape") for name in names}))
    return path
