"""The weights in results/weights: each has its card, and gives the errors that the card claims."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from imports import ROOT
from published import SHARED, needs

from pipeline.predict import load_net
from pipeline.run.sources import FOLDER

FILES = sorted((ROOT / FOLDER).glob("*.safetensors"))
LARGEST = 5_000_000  # bytes of a file in the repository


def test_there_are_weights():
    assert {"cifar10-resnet20", "cifar10-resnet56"} <= {file.stem for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_file_is_small_and_has_a_card_of_its_own_run(file: Path):
    net, card = load_net(file), file.with_suffix(".md").read_text()
    assert file.stat().st_size < LARGEST
    assert net.record.key in card and net.record.name in card and ", ".join(net.classes) in card
    assert f"Validation error: {100 * net.record.val_err1:.2f} %" in card


@pytest.mark.parametrize("name", [file.stem for file in FILES])
def test_torch_hub_loads_them_by_name(name: str):
    net = torch.hub.load(str(ROOT), "published", name, source="local")
    assert net(torch.zeros(1, 3, 32, 32, dtype=torch.uint8)).shape == (1, len(net.classes))


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory) -> tuple[torch.Tensor, torch.Tensor]:
    """The test images (10000, 3, 32, 32) uint8, and their labels."""
    from pipeline.config import DataConfig
    from pipeline.data.preprocess import preprocess
    from pipeline.data.sources import fetch
    from pipeline.data.store import open_store

    folder = tmp_path_factory.mktemp("cifar10")
    data = DataConfig(name="cifar10", source="cifar10", image_size=32, num_val=5000, mirror=str(SHARED))
    fetch(data, folder / "raw", folder)
    preprocess(data, folder / "raw", folder / "store")
    records = open_store(folder / "store").test()
    return torch.from_numpy(records.images[:]).permute(0, 3, 1, 2), torch.from_numpy(records.labels[:])  # type: ignore[union-attr]


@pytest.mark.slow
@needs("cifar10.tgz")
@pytest.mark.parametrize(
    "file", [file for file in FILES if file.stem.startswith("cifar10-")], ids=lambda file: file.stem
)
def test_a_net_gives_the_error_of_its_card(file: Path, cifar10):
    (claimed,) = re.findall(
        r"Test error on 10,000 images \(single 32x32 view\): ([\d.]+) %", file.with_suffix(".md").read_text()
    )
    net, (images, labels) = load_net(file), cifar10
    answers = torch.cat([net(part).argmax(1) for part in images.split(500)])
    assert f"{100 * (answers != labels).float().mean().item():.2f}" == claimed
