"""The sweep: its figure and its table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nets import make_net
from pages import is_picture, legend, texts
from samples import make_sample

from pipeline.report.inputs import Trial
from pipeline.report.sweep import axis_key, best_of_each, groups, is_grid, points, sweep, sweep_figure
from pipeline.report.theme import LIGHT


def trial(error=0.1, stopped=False, run_id="r20", **config):
    config = {key.replace("__", "."): value for key, value in config.items()}
    return Trial(
        name="t", run_id=run_id, config=config, val_err1=error, steps=9, stopped_early=stopped, status="finished"
    )


NETS = {f"r{depth}": make_net(depth) for depth in (20, 32)} | {"p20": make_net(20, residual=False)}


def test_the_sweep_runs_along_lr_else_along_what_varied_most_else_along_depth():
    assert axis_key([trial(recipe__lr=lr, recipe__weight_decay=wd) for lr, wd in ((0.1, 1), (0.2, 2), (0.2, 3))]) == (
        "recipe.lr"
    )
    assert axis_key([trial(recipe__weight_decay=w, model__depth=20 + 6 * w) for w in (1, 2)]) == "recipe.weight_decay"
    assert axis_key([trial(model__depth=20), trial(model__depth=32)]) == "model.depth"
    assert axis_key([trial(model__residual=True), trial(model__residual=False)]) is None
    assert axis_key([]) is None


def test_trials_are_grouped_by_their_runs_net_and_those_without_a_place_are_left_out():
    lrs = [trial(recipe__lr=lr, run_id=run) for lr, run in ((0.1, "p20"), (0.2, "r20"), (0.3, "r32"), (0.4, "unknown"))]
    placed = points([*lrs, trial(recipe__lr=0.5, error=None), trial(seed=1)], NETS)
    assert [(point.x, point.group.name) for point in placed] == [
        (0.1, "plain-20"),
        (0.2, "ResNet-20"),
        (0.3, "ResNet-32"),
    ]
    depths = [trial(model__depth=depth, run_id=f"r{depth}") for depth in (20, 32)]
    assert [group.name for group in groups(points(depths, NETS))] == ["residual"]


def test_a_grid_gets_numbers_and_scattered_draws_do_not():
    grid = [trial(recipe__lr=lr, run_id=f"r{depth}") for lr in (0.1, 0.2) for depth in (20, 32)]
    assert is_grid(points(grid, NETS))
    scattered = [trial(recipe__lr=0.01 * i, run_id=f"r{20 + 12 * (i % 2)}") for i in range(1, 30)]
    assert not is_grid(points(scattered, NETS)) and not is_grid(points(grid[:1] + grid[2:3], NETS))


def test_a_line_joins_the_best_trial_of_each_value():
    seeds = [trial(recipe__lr=lr, seed=seed, error=lr + seed / 100) for lr in (0.1, 0.2) for seed in (2, 0, 1)]
    stopped = trial(recipe__lr=0.2, seed=3, error=0.01, stopped=True)
    placed = points([*seeds, stopped], NETS)
    assert [(point.x, point.error) for point in best_of_each(placed)] == [(0.1, 0.1), (0.2, 0.2)]
    (axes,) = sweep_figure(placed, "recipe.lr", [20])(LIGHT).axes
    assert axes.get_xlabel() == "learning rate" and legend(axes) == ["ResNet-20", "stopped early"]


def test_a_table_shows_the_search_before_the_sweep_with_the_chosen_value_bold():
    rates = [(0.01, 0.63), (0.02, 0.61), (0.04, 0.7)]
    values = [{"config": {"recipe.muon_lr": lr}, "val_err1": error, "trials": 2} for lr, error in rates]
    search = {"chosen": {"recipe.muon_lr": 0.02}, "values": values, "trials": [{"steps": 1053}] * 6}
    inputs = make_sample()
    text = texts(sweep(replace(inputs, leaderboard={**inputs.leaderboard, "search": search})))
    assert "trials of 1,053 steps" in text
    assert "| 0.01 | 2 | 63.00% |\n| **0.02** | **2** | **61.00%** |\n| 0.04 | 2 | 70.00% |" in text
    assert "mean validation" not in texts(sweep(inputs))


def test_a_sweep_whose_budget_was_spent_says_so():
    inputs = make_sample()
    board = {**inputs.leaderboard, "ended": "sweep.budget.hours=8 is spent"}
    assert "before its last trial: sweep.budget.hours=8 is spent." in texts(sweep(replace(inputs, leaderboard=board)))
    assert "before its last trial" not in texts(sweep(inputs))


@pytest.mark.parametrize(
    "trials",
    [
        [trial(recipe__lr=lr, error=lr, stopped=lr > 0.2) for lr in (0.1, 0.2, 0.9)],
        [trial(recipe__lr=lr, run_id=f"r{d}", stopped=True) for lr in (0.1, 0.2) for d in (20, 32)],
        [trial(model__depth=d, run_id=f"r{d}") for d in (20, 32)],
        [trial(recipe__lr=lr, error=0.0) for lr in (0.1, 0.2)],
    ],
)
def test_sweeps_of_all_kinds_draw(trials):
    assert is_picture(sweep_figure(points(trials, NETS), axis_key(trials), [20, 32]))
