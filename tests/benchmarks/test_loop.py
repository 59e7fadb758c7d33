"""The row of the loop around a step."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import loop, rates
from benchmarks.bench import QUICK, Bench
from benchmarks.configs import paper_config
from benchmarks.synthetic import synthetic_store
from pipeline.learn.models import build_model


def test_what_fit_adds_to_a_step_is_told_in_microseconds_by_steps_a_call(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", side=8, classes=4, images=96, num_val=16)
    effort = replace(QUICK, pairs=1, seconds=0.05)
    lines: list[str] = []
    found = loop.section(Bench(store, tmp_path, tmp_path, torch.device("cpu"), effort, lines.append))
    assert [(row.unit, row.bar) for row in found] == [("us", None)] * 2
    assert ["1 a call" in found[0].name, "25 a call" in found[1].name] == [True, True]
    assert all(row.ours > 0 < row.reference for row in found) and len(lines) == 2


def test_the_net_of_nothing_is_gone_after_its_block(tmp_path: Path) -> None:
    store = synthetic_store(tmp_path / "store", side=8, classes=4, images=96, num_val=16)
    with loop.net_of_nothing():
        small = rates.new_net(paper_config(store, tmp_path), store)
    assert sum(p.numel() for p in small.parameters()) == 3 * 4 + 4
    assert rates.build_model is build_model
    with pytest.raises(ZeroDivisionError), loop.net_of_nothing():
        _ = 1 / 0
    assert rates.build_model is build_model
