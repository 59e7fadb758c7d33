from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.bench import asha
from pipeline.bench.synthetic import synthetic_store


def test_a_missing_store_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert asha.main(["--data", str(tmp_path / "none")]) == 2
    assert "asha: " in (said := capsys.readouterr().err) and "holds no data store" in said
    assert not (tmp_path / "metrics").exists()


@pytest.mark.slow
def test_grid_and_asha_are_two_sweeps_of_the_same_space(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = synthetic_store(tmp_path / "store", classes=4, images=96, num_val=16)
    command = ["--data", str(store.path), "--epochs", "4", "--space", "{model.depth:[8],recipe.lr:[0.01,1.0e-9]}"]
    for _ in range(2):  # the second time, nothing is trained again
        assert asha.main([*command, "recipe.batch_size=8"]) == 0
        found = json.loads(Path("metrics/asha.json").read_text())
        begun = sum(path.read_text().count('"begin"') for path in Path("runs/asha").glob("*/runs/*/journal.jsonl"))
        assert begun - 2 * (_ + 1) == 4  # each sweep is a run too
    grid, stopped = found["grid"], found["asha"]
    assert grid["steps"] == 2 * 4 * 10
    assert {trial["status"] for trial in grid["trials"]} == {"finished"}
    assert found["share_of_steps"] == stopped["steps"] / grid["steps"] <= 1
    assert found["gap_err1"] == stopped["best_err1"] - grid["best_err1"]
    assert found["holds"] is (found["share_of_steps"] < 0.4 and found["gap_err1"] <= 0.003)
    assert "validation error" in capsys.readouterr().out
