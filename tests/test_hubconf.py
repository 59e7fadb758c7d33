"""torch.hub loads the repository's nets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from imports import ROOT
from runs import run_folder

from pipeline.errors import PipelineError
from pipeline.run.weights import BEST


def parameters(**keys: object) -> int:
    with torch.device("meta"):
        net = torch.hub.load(str(ROOT), "resnet", source="local", **keys)
    return sum(parameter.numel() for parameter in net.parameters())


def test_untrained_nets_take_the_defaults_of_their_family() -> None:
    assert parameters() == parameters(depth=20) == 269_722
    # Option A would leave out the projections; 25.6 M as in torchvision.
    assert parameters(family="imagenet", depth=50, num_classes=1000) == 25_557_032
    assert parameters(family="imagenet", num_classes=1000) == 11_689_512
    assert parameters(family="imagenet", depth=18, shortcut="A", num_classes=1000) < 11_689_512
    assert parameters(family="vgg_small", depth=11) > parameters(family="vgg_small", depth=11, num_classes=9) > 9e6
    assert parameters(family="faster_rcnn", backbone="plain8") == parameters(family="faster_rcnn", backbone="resnet8")


def test_an_unknown_family_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(PipelineError, match=r"model\.family='resnext'; choose one of cifar, imagenet"):
        parameters(family="resnext")


def test_torch_hub_loads_nets(reference: Path) -> None:
    net = torch.hub.load(str(ROOT), "resnet", source="local", depth=20)
    assert sum(parameter.numel() for parameter in net.parameters()) == 269_722  # 0.27 M, Sec. 4.2
    trained = torch.hub.load(str(ROOT), "load_net", str(run_folder(reference) / BEST), source="local")
    assert trained(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)).shape == (2, 10)
