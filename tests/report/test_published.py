"""Results kept in git, and the README's table."""

from __future__ import annotations

import pytest

from pipeline.atomic import read_json
from pipeline.report.inputs import ReportInputs
from pipeline.report.published import BEGIN, END, publish

NET = {
    "run_id": "r",
    "model": "resnet20",
    "depth": 20,
    "residual": True,
    "params": 1,
    "lr": 0.1,
    "seed": 0,
    "steps": 700,
}
ERRORS = {"val_err1": 0.25, "test_err1": 0.2512, "test_err5": 0.01, "ci95": [0.24, 0.26]}
INPUTS = ReportInputs(
    data={"name": "cifar10", "classes": ["a", "b"], "counts": {"train": 45, "val": 5, "test": 10}},
    evaluation={"members": [{**NET, **ERRORS}], "ensemble": {"size": 3, "selection": "top_k", **ERRORS}},
    provenance={"commands": {"the whole experiment": "dvc exp run -S data=cifar10"}},
)


def test_the_table_is_made_anew_from_all_results_and_the_rest_of_the_readme_stays(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    for name in ("cifar10", "again"):
        publish(INPUTS, name, tmp_path / "results", readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert "25.12%" in text and "dvc exp run -S data=cifar10" in text
    assert text.count("ensemble of 3") == 2
    assert read_json(tmp_path / "results" / "again.json")["evaluation"]["members"][0]["test_err1"] == 0.2512


def test_a_readme_without_a_place_for_it_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="put them where the table belongs"):
        publish(INPUTS, "cifar10", tmp_path / "results", tmp_path / "README.md")
