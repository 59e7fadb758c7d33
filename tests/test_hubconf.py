"""torch.hub loads the repository's nets."""

from __future__ import annotations

from pathlib import Path

import torch
from imports import ROOT
from runs import run_folder

from pipeline.run.weights import BEST


def test_torch_hub_loads_nets(reference: Path) -> None:
    net = torch.hub.load(str(ROOT), "resnet", source="local", depth=20)
    assert sum(parameter.numel() for parameter in net.parameters()) == 269_722  # 0.27 M, Sec. 4.2
    trained = torch.hub.load(str(ROOT), "load_net", str(run_folder(reference) / BEST), source="local")
    assert trained(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 10)
