"""What TPE suggests."""

from __future__ import annotations

import math
from typing import Any

from pipeline.tuning.space import grid_of
from pipeline.tuning.state import Trial
from pipeline.tuning.suggest import STATES, suggested

RATE = {"recipe.lr": {"loguniform": [0.001, 1.0]}}
BY_DEPTH = [
    {"model.depth": [8, 14], "recipe.lr": {"loguniform": [0.1, 1.0]}},
    {"model.depth": [20], "recipe.lr": {"loguniform": [0.001, 0.01]}, "recipe.milestones": [[10], [20, 30]]},
]


def error(point: dict[str, Any]) -> float:
    """Lowest at a learning rate of 0.03."""
    return min(1.0, 0.1 + 0.2 * abs(math.log10(point["recipe.lr"] / 0.03)))


def ended(point: dict[str, Any], status: str = "finished") -> Trial:
    reports = [(1, 0.9), (2, error(point))]
    return Trial(point, status=status, val_err1=1.0 if status == "diverged" else error(point), reports=reports)


def swept(space: Any, number: int, seed: int = 0, trials: tuple[Trial, ...] = ()) -> list[Trial]:
    made = list(trials)
    while len(made) < number and (point := suggested(space, seed, made)) is not None:
        made.append(ended(point))
    return made


def points(trials: list[Trial]) -> list[dict[str, Any]]:
    return [trial.point for trial in trials]


def test_suggestions_approach_the_best_and_the_seed_decides_them():
    trials = swept(RATE, 40)
    distances = [abs(math.log10(point["recipe.lr"] / 0.03)) for point in points(trials)]
    assert sorted(distances[25:])[7] < 0.5 * sorted(distances[:10])[5]  # medians
    assert points(swept(RATE, 12)) == points(trials)[:12] != points(swept(RATE, 12, seed=1))


def test_a_sweep_that_goes_on_gets_the_suggestions_of_one_that_was_not_interrupted():
    whole = swept(RATE, 20)
    for at in (3, 13):
        again = [Trial(**vars(trial)) for trial in whole[:at]]
        assert points(swept(RATE, 20, trials=tuple(again))) == points(whole)


def test_each_suggestion_lies_in_one_of_the_grids_and_no_point_is_there_twice():
    trials = swept(BY_DEPTH, 40)
    assert {grid_of(BY_DEPTH, point) for point in points(trials)} == {0, 1}
    assert {str(point.get("recipe.milestones")) for point in points(trials)} == {"None", "[10]", "[20, 30]"}
    lists = {"model.depth": [8, 14, 20], "seed": [0, 1, 2, 3]}
    made = [tuple(point.values()) for point in points([ended_alike(point) for point in all_of(lists)])]
    assert len(set(made)) == len(made) == 12


def ended_alike(point: dict[str, Any]) -> Trial:
    return Trial(point, status="finished", val_err1=0.1)


def all_of(space: dict[str, Any]) -> list[dict[str, Any]]:
    """Suggestions until there are none."""
    trials: list[Trial] = []
    while (point := suggested(space, 0, trials)) is not None:
        trials.append(ended_alike(point))
    return points(trials)


def test_how_the_best_trials_ended_changes_what_is_suggested():
    first = swept(RATE, 25)

    def after(status: str) -> float:
        changed = [ended(trial.point, status) if trial.val_err1 < 0.2 else trial for trial in first]
        return suggested(RATE, 0, changed)["recipe.lr"]

    next_to = {status: after(status) for status in (*STATES, "failed")}
    assert len(set(next_to.values())) == 4
    assert next_to["stopped"] == next_to["diverged"]  # both come after all that finished


def test_trials_that_train_keep_suggestions_away_from_them_and_failed_ones_do_not():
    first = swept(RATE, 15)
    best = suggested(RATE, 0, first)["recipe.lr"]
    near = [{"recipe.lr": best * (1 + at / 100)} for at in range(1, 6)]
    training = suggested(RATE, 0, [*first, *map(Trial, near)])["recipe.lr"]
    failed = suggested(RATE, 0, [*first, *(Trial(point, status="failed") for point in near)])["recipe.lr"]
    assert abs(math.log(training / best)) > 5 * abs(math.log(failed / best))


def test_trials_outside_the_space_are_left_out():
    inside = swept(RATE, 12)
    outside = [
        Trial({"recipe.lr": 5.0}, status="finished", val_err1=0.01),
        Trial({"seed": 3}, status="finished", val_err1=0.0),
    ]
    assert 0.001 <= suggested(RATE, 0, [*outside, *inside])["recipe.lr"] <= 1.0
