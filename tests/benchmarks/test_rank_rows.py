from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks import ranks
from benchmarks.bench import QUICK, Bench
from benchmarks.synthetic import synthetic_store


@pytest.mark.slow
def test_ranks_and_threads_are_timed_over_the_same_steps(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", side=8, classes=4, images=96, num_val=16)
    work = tmp_path / "work"
    work.mkdir()
    bench = Bench(store, work, tmp_path, torch.device("cpu"), QUICK, lambda line: None)
    (row,) = ranks.section(bench, depth=8, batch_size=8, steps=10)
    assert row.name == "two one-thread ranks against two threads, ResNet-8, batch 8"
    assert row.ours > 0 and row.reference > 0
    assert (row.bar, row.judged) == (0.9, "ratio >=")


@pytest.mark.slow
def test_a_training_that_fails_says_why(tmp_path: Path) -> None:
    job = {"store": str(tmp_path / "none"), "depth": 8, "batch_size": 8, "steps": 4, "ranks": 1, "threads": 1}
    with pytest.raises(ValueError, match="holds no data store"):
        ranks.rate_of(job)
