"""What only a GPU can show: `make gpu-check`, or `pytest -m gpu tests/gpu`.

Tests here take `device` and are skipped where torch finds no CUDA device. Tests of the checks themselves run everywhere.
"""

from __future__ import annotations

import pytest
import torch

from benchmarks.synthetic import synthetic_store
from pipeline.data.store import Store


@pytest.fixture
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip(f"needs a CUDA device, and torch {torch.__version__} finds none")
    return torch.device("cuda")


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("gpu") / "store", images=12_800, num_val=1_280)
