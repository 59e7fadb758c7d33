"""What start.weights may name. Apart from `start`, which reads the weights, so that a sweep starts without torch."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline.errors import MissingError, printable

RUN, TORCHVISION, PUBLISHED = "run:", "torchvision:", "published:"  # what is no file
FOLDER = Path("results/weights")  # of published weights, below the repository's root


def anchored(weights: str, root: Path) -> str:
    """start.weights with an absolute path, if it is a file or published, in which ~ is the user's home: ranks and trials run in other folders.

    Raises:
        MissingError: no such published weights.
    """
    if not weights or weights.startswith((RUN, TORCHVISION)):
        return weights
    if weights.startswith(PUBLISHED):
        return str(published(weights.removeprefix(PUBLISHED), root))
    return str((root / os.path.expanduser(weights)).resolve())


def published(name: str, root: Path) -> Path:
    """The file of the published weights `name`, for example cifar10-resnet20.

    Raises:
        MissingError: there are none of this name.
    """
    there = {path.stem: path for path in sorted((root / FOLDER).glob("*.safetensors"))}
    if name not in there:
        names = ", ".join(f"{PUBLISHED}{each}" for each in there) or "there are none in this clone"
        raise MissingError(f"{PUBLISHED}{printable(name)} is not in {FOLDER}; choose one of {names}")
    return there[name].resolve()
