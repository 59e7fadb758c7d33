from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from pipeline.bench import rounding
from pipeline.bench.synthetic import synthetic_store
from pipeline.learn.models import build_model


def test_a_missing_store_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert rounding.main(["--data", str(tmp_path / "none")]) == 2
    assert "rounding: " in (said := capsys.readouterr().err) and "holds no data store" in said


def test_tf32_keeps_ten_bits() -> None:
    values = torch.tensor([1.0, 1 + 2**-10, 1 + 2**-12, 1 + 2**-11, -1 - 2**-11, 3.0e-20])
    assert rounding.tf32(values)[:5].tolist() == [1.0, 1 + 2**-10, 1.0, 1 + 2**-10, -1 - 2**-10]
    assert torch.allclose(rounding.tf32(values), values, rtol=2**-11)


def test_a_gradient_in_each_arithmetic_is_that_of_the_loss() -> None:
    torch.manual_seed(0)
    net, labels = build_model("cifar", 8, num_classes=4), torch.tensor([0, 1, 2, 3])
    images = torch.randn(4, 3, 8, 8)
    before = [weight.clone() for weight in net.parameters()]
    exact = rounding.gradient(net, images, labels, "fp64")
    torch.nn.functional.cross_entropy(net.double()(images.double()), labels).backward()
    assert torch.equal(exact, torch.cat([weight.grad.flatten() for weight in net.parameters()]))  # type: ignore[union-attr]
    net.float().zero_grad()
    off = {
        how: float((rounding.gradient(net, images, labels, how) - exact).norm() / exact.norm())
        for how in rounding.ARITHMETIC
    }
    assert off["fp32"] < 1e-4 < off["tf32"] < off["bf16"] < 0.5
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))


@pytest.mark.slow
def test_depth_costs_plain_nets_their_direction(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", classes=4, images=96, num_val=16)
    out = tmp_path / "rounding.json"
    assert rounding.main(["--data", str(store.path), "--depths", "32", "--batch", "32", "--out", str(out)]) == 0
    plain, residual = json.loads(out.read_text())
    assert (plain["net"], residual["net"]) == ("plain-32", "ResNet-32")
    assert plain["bf16"] < 0.8 < 0.9 < residual["bf16"] <= residual["fp32"]
    assert plain["bf16"] < plain["tf32"] < plain["fp32"]
