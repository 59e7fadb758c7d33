"""The checks by name. Each takes a device and a folder to work in, and has defaults for the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from benchmarks.gpu.ddp import ddp
from benchmarks.gpu.loop import loop
from benchmarks.gpu.parity import parity
from benchmarks.gpu.profile import profile
from benchmarks.gpu.replay import replay
from benchmarks.gpu.resnet20 import resnet20
from benchmarks.gpu.resnet50 import resnet50
from benchmarks.gpu.train import train

# What was found, fit for JSON, and whether it is as it should be; None where the check does not apply.
Found = tuple[dict[str, Any], bool | None]
PARTS: dict[str, Callable[..., Found]] = {
    "parity": parity,
    "replay": replay,
    "train": train,
    "loop": loop,
    "resnet20": resnet20,
    "resnet50": resnet50,
    "profile": profile,
    "ddp": ddp,
}
