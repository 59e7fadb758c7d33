from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks.harness import Bench, Effort
from benchmarks.synthetic import synthetic_store
from pipeline.data.store import Store

TINY = Effort(pairs=1, depths=(8,), compiled=False, seconds=0.05, batches=4, images=12, stored=96)


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("bench") / "store", side=8, classes=4, images=96, num_val=16)


@pytest.fixture
def bench(tmp_path: Path, tiny_store: Store) -> Callable[..., Bench]:
    """Makes a Bench on the CPU: of the tiny store, unless another one is given."""
    (tmp_path / "work").mkdir()

    def make(store: Store = tiny_store, effort: Effort = TINY) -> Bench:
        return Bench(store, tmp_path / "work", tmp_path / "metrics", torch.device("cpu"), effort, lambda line: None)

    return make
