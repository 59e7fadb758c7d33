from __future__ import annotations

from pipeline.report.sweep import axis_key, best_of_each, groups, is_grid, points, sweep_figure
from pipeline.report.theme import LIGHT, render


def trial(error=0.1, stopped=False, run_id="", **config):
    return {
        "name": str(config),
        "run_id": run_id,
        "key": "",
        "config": {key.replace("__", "."): value for key, value in config.items()},
        "val_err1": error,
        "steps": 100,
        "stopped_early": stopped,
        "status": "finished",
    }


def draw(trials, kinds=None):
    return render(sweep_figure(points(trials, kinds or {}), axis_key(trials), [20, 32]), LIGHT)


def test_the_picture_runs_along_lr_else_along_what_varied_most_else_along_depth():
    assert axis_key([trial(recipe__lr=lr, recipe__weight_decay=wd) for lr, wd in ((0.1, 1), (0.2, 2), (0.2, 3))]) == (
        "recipe.lr"
    )
    assert axis_key([trial(recipe__weight_decay=w, model__depth=20 + 6 * w) for w in (1, 2)]) == "recipe.weight_decay"
    assert axis_key([trial(model__depth=20), trial(model__depth=32)]) == "model.depth"
    assert axis_key([trial(model__residual=True), trial(model__residual=False)]) is None
    assert axis_key([]) is None


def test_what_a_trial_leaves_to_the_base_configuration_comes_from_its_run():
    trials = [trial(recipe__lr=0.1, run_id="a"), trial(recipe__lr=0.2, run_id="b", model__residual=True)]
    first, second = points(trials, {"a": (False, 32), "b": (False, 32)})
    assert (first.residual, first.depth) == (False, 32)
    assert second.residual is True


def test_trials_without_a_place_are_left_out():
    trials = [trial(recipe__lr=0.1), trial(recipe__lr=0.2, error=None), trial(recipe__lr=0.3), trial(seed=1)]
    assert [point.x for point in points(trials, {})] == [0.1, 0.3]


def test_a_grid_gets_numbers_and_scattered_draws_do_not():
    grid = [trial(recipe__lr=lr, model__depth=depth) for lr in (0.1, 0.2) for depth in (20, 32)]
    assert is_grid(points(grid, {}))
    scattered = [trial(recipe__lr=0.01 * i, model__depth=20 + 6 * (i % 2)) for i in range(1, 30)]
    assert not is_grid(points(scattered, {}))
    assert not is_grid(points(grid[:1] + grid[2:3], {}))
    assert list(groups(points(grid, {}))) == [(True, 20), (True, 32)]


def test_a_line_joins_the_best_trial_of_each_value():
    seeds = [trial(recipe__lr=lr, seed=seed, error=lr + seed / 100) for lr in (0.1, 0.2) for seed in (2, 0, 1)]
    stopped = trial(recipe__lr=0.2, seed=3, error=0.01, stopped=True)
    assert [(point.x, point.error) for point in best_of_each(points([*seeds, stopped], {}))] == [(0.1, 0.1), (0.2, 0.2)]


def test_pictures_of_all_kinds_draw():
    assert draw([trial(recipe__lr=lr, error=lr, stopped=lr > 0.2) for lr in (0.1, 0.2, 0.9)])
    assert draw([trial(recipe__lr=lr, model__depth=d, stopped=True) for lr in (0.1, 0.2) for d in (20, 32)])
    assert draw([trial(model__depth=d, model__residual=r) for d in (20, 32) for r in (True, False)])
    assert draw([trial(recipe__lr=lr, error=0.0) for lr in (0.1, 0.2)])
