"""What start.weights may name. Apart from `start`, which reads the weights, so that a sweep starts without torch."""

from __future__ import annotations

import os
from pathlib import Path

RUN, TORCHVISION = "run:", "torchvision:"  # what is no file


def anchored(weights: str, root: Path) -> str:
    """start.weights with an absolute path, if it is a file, in which ~ is the user's home: ranks and trials run in other folders."""
    if not weights or weights.startswith((RUN, TORCHVISION)):
        return weights
    return str((root / os.path.expanduser(weights)).resolve())
