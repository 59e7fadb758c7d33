from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import commands, startup
from benchmarks.bench import QUICK, Bench
from benchmarks.synthetic import synthetic_store
from pipeline.data.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("bench") / "store", images=600, num_val=100)


def test_help_answers_before_anything_heavy_is_imported(tmp_path: Path, store: Store) -> None:
    root = commands.workspace(tmp_path / "root", "cifar10", store.path)
    assert [row.name for row in startup.help_rows(root)] == ["pipeline --help", "pipeline train --help"]
    for row in startup.help_rows(root):
        assert 0 < row.reference() < 20
        assert 0 < row.ours() < 20  # that of a busy machine; importing torch alone takes seconds on an idle one


def test_a_command_that_fails_says_why(tmp_path: Path, store: Store) -> None:
    root = commands.workspace(tmp_path / "root", "cifar10", store.path)
    with pytest.raises(ValueError, match="it must be positive"):
        startup.first_step_s(root, "recipe.lr=-1")


@pytest.mark.slow
def test_each_row_is_measured(tmp_path: Path, store: Store) -> None:
    told: list[str] = []
    bench = Bench(store, tmp_path, tmp_path, torch.device("cpu"), replace(QUICK, pairs=1), told.append)
    rows = startup.section(bench)
    assert [(row.judged, row.bar) for row in rows] == [
        ("ours <=", 0.3),
        ("ours <=", 0.3),
        ("excess <=", 2.0),
        ("excess <=", 2.0),
    ]
    assert len(told) == len(rows)
    step, no_op = rows[2:]
    assert step.ours > 1 and no_op.ours > no_op.reference / 3
    # One that was killed after its first step, for the warm-up and for each pair, and nothing else.
    journals = list((tmp_path / "startup" / "runs").glob("*/*/journal.jsonl"))
    assert len(journals) == 2 and not list((tmp_path / "startup" / "runs").glob("*/*/best.safetensors"))
    (tmp_path / "startup" / "pipeline" / "report" / "theme.py").write_text("")
    with pytest.raises(ValueError, match="dvc repro failed"):
        startup.no_op_s(tmp_path / "startup")
