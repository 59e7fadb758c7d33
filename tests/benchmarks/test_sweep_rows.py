from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sweep
from benchmarks.harness import QUICK, Bench
from benchmarks.synthetic import synthetic_store
from pipeline.tracking.journal import line_of


def test_a_trial_costs_what_lies_between_beginnings_and_the_rest_is_paid_once(tmp_path: Path) -> None:
    for name, second in (("sweep-x", 1), ("a", 10), ("b", 14), ("c", 16), ("d", 18)):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        event = {"event": "begin", "name": f"{name} of digits", "time": 1000 * second}
        (folder / "journal.jsonl").write_bytes(line_of(event))
        if name != "sweep-x":
            (folder / "run.json").write_text("{}")
    assert sweep._times(tmp_path, 30.0) == sweep.Times(trial_s=2.0, once_s=22.0)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_kernel_tells_what_a_mapped_file_costs(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", np.ones(10_000_000, np.uint8))
    assert sweep._mapped(os.getpid(), "images.npy") == 0
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    assert mapped.sum() == 10_000_000
    assert sweep._mapped(os.getpid(), "images.npy") == pytest.approx(10_000_000, rel=0.01)
    assert sweep._mapped(2**22 + 1, "images.npy") == 0  # a process that is gone


@pytest.mark.slow
def test_sweep_and_loop_train_the_same_and_images_are_shared(tmp_path: Path, bench: Callable[..., Bench]) -> None:
    store = synthetic_store(tmp_path / "store", images=2_000, num_val=100)
    trial, once, long, *memory = sweep.section(bench(store, QUICK), images=240)
    assert trial.reference > 0 and trial.ours > 0
    assert once.ours > once.reference > 0
    assert long.ours == pytest.approx(once.ours + 10 * (120 + trial.ours - trial.reference))
    if sys.platform == "linux":
        assert 0.5 < memory[0].ratio <= 1.05
    keys = [
        {path.parent.name for path in (tmp_path / "work" / name / "runs").glob("*/run.json")}
        for name in ("sweep-0", "loop-0")
    ]
    assert keys[0] == keys[1] and len(keys[0]) == 8
