"""What a model of MLflow reads of its loader."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from pipeline.ensemble.carried import device_in


@pytest.mark.parametrize("gpu", [True, False])
def test_the_loader_names_the_device_or_leaves_the_choice(gpu: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    devices = [device_in(SimpleNamespace(model_config={"device": name})).type for name in ("cpu", "cuda", "auto")]
    assert devices == ["cpu", "cuda", "cuda" if gpu else "cpu"]
