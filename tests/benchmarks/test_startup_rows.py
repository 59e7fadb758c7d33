from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import commands, startup
from benchmarks.harness import QUICK, Bench
from benchmarks.synthetic import synthetic_store
from pipeline.data.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("bench") / "store", images=600, num_val=100)


def test_the_command_line_is_timed_and_a_failure_says_why(tmp_path: Path, store: Store) -> None:
    root = commands.workspace(tmp_path / "root", "cifar10", store.path)
    rows = startup.help_rows(root)
    assert [(row.name, row.bar) for row in rows] == [("pipeline --help", 0.3), ("pipeline train --help", 0.3)]
    for row in rows:
        assert 0 < row.reference() < 20
        assert 0 < row.ours() < 20  # that of a busy machine; importing torch alone takes seconds on an idle one
    with pytest.raises(ValueError, match=r"recipe\.lr=-1\.0; it must be at least"):
        startup.first_step_s(root, "recipe.lr=-1")


@pytest.mark.slow
def test_each_row_is_measured(tmp_path: Path, store: Store, bench: Callable[..., Bench]) -> None:
    rows = startup.section(bench(store, replace(QUICK, pairs=1)))
    assert [(row.judged, row.bar) for row in rows] == [
        ("ours <=", 0.3),
        ("ours <=", 0.3),
        ("excess <=", 2.0),
        ("excess <=", 2.0),
    ]
    step, no_op = rows[2:]
    assert step.ours > 1 and no_op.ours > no_op.reference / 3
    # One that was killed after its first step, for the warm-up and for each pair, and nothing else.
    root = tmp_path / "work" / "startup"
    assert len(list((root / "runs").glob("*/*/journal.jsonl"))) == 2
    assert not list((root / "runs").glob("*/*/best.safetensors"))
    with (root / "pipeline" / "stages" / "report.py").open("a") as code:
        code.write("raise SystemExit(1)\n")
    with pytest.raises(ValueError, match="dvc repro"):
        startup.no_op_s(root)
