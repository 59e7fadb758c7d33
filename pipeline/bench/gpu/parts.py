"""The checks by name. Each takes a device and a folder to work in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.bench.gpu.ddp import ddp
from pipeline.bench.gpu.parity import parity
from pipeline.bench.gpu.throughput import throughput
from pipeline.bench.gpu.train import train

# What was found, fit for JSON, and whether it is as it should be; None where the check does not apply.
Found = tuple[dict[str, Any], bool | None]
PARTS: dict[str, Callable[[torch.device, Path], Found]] = {
    "parity": parity,
    "train": train,
    "throughput": throughput,
    "ddp": ddp,
}
