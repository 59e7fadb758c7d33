"""Trials that other sweeps have trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipeline.tuning.extending import trained_elsewhere
from pipeline.tuning.state import About
from pipeline.tuning.trials import Trials

SETTINGS = {"space": {"seed": [0, 1]}, "num_samples": 1, "reduction_factor": 0, "grace_epochs": 1}
POINTS = [{"seed": seed} for seed in range(5)]
STATUSES = ("finished", "stopped", "diverged", "failed", "unfinished")


def about(name: str, recipe: str = "short", **settings: Any) -> About:
    return About(sweep=name, facts={"recipe": recipe, "points": [], "sweep": {**SETTINGS, **settings}})


def sweep(runs: Path, of: About) -> None:
    trials = Trials(runs / of.sweep, POINTS, runs, of)
    for trial, status in zip(trials.all, STATUSES, strict=True):
        trial.status, trial.val_err1 = status, 0.5
    trials.write()


def taken(runs: Path, of: About, *, suggested: bool = False) -> list[int]:
    return [trial.point["seed"] for trial in trained_elsewhere(runs, of, suggested=suggested)]


@pytest.mark.parametrize(
    ("changes", "by_grid", "by_suggestion"),
    [
        ({"space": {"seed": [0, 1, 2]}}, [0, 1, 2], [0, 1, 2]),
        ({"num_samples": 9}, [0, 1, 2], [0, 1, 2]),
        ({"reduction_factor": 3}, [0, 2], []),
        ({"grace_epochs": 5}, [0, 2], []),
        ({"max_concurrent": 5}, [0, 1, 2], []),
        ({"recipe": "long"}, [], []),
    ],
)
def test_trials_that_would_be_trained_alike_are_taken_over(changes, by_grid, by_suggestion, tmp_path: Path):
    sweep(tmp_path, about("sweep-old"))
    new = about("sweep-new", **changes)
    assert taken(tmp_path, new) == by_grid
    assert taken(tmp_path, new, suggested=True) == by_suggestion


def test_a_sweep_takes_nothing_from_itself_nor_from_a_search_nor_from_a_file_of_before(tmp_path: Path, capsys):
    for name in ("sweep-own", "search-old"):
        sweep(tmp_path, about(name))
    sweep(tmp_path, About(sweep="sweep-before"))
    assert taken(tmp_path, about("sweep-own")) == []
    (tmp_path / "sweep-before" / "trials.json").write_text("[")
    assert taken(tmp_path, about("sweep-own")) == [] and "sweep-before" in capsys.readouterr().err
