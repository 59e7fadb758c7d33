"""The points of conf/'s search spaces."""

from __future__ import annotations

import pytest
from runs import composed

from pipeline.tuning.space import (
    check_space,
    example_points,
    grid_of,
    mapped,
    points,
    trial_name,
    values_of,
)


def test_lists_become_a_grid_and_the_seed_alone_decides_draws_from_ranges():
    space = {"recipe.lr": {"loguniform": [0.01, 0.1]}, "model.depth": [8, 14], "recipe.momentum": {"uniform": [0, 0.9]}}
    made = points(space, num_samples=20, seed=3)
    assert [list(point) for point in made] == [list(space)] * 40
    assert [point["model.depth"] for point in made] == [8, 14] * 20
    rates = sorted(point["recipe.lr"] for point in made)
    assert 0.01 <= rates[0] < rates[-1] <= 0.1 and rates[15] < 0.045 and len(set(rates)) == 40
    assert points(space, 20, 3) == made != points(space, 20, 4) and points(space, 10, 3) == made[:20]


def test_more_samples_and_more_values_leave_the_points_that_are_there():
    rates = {"loguniform": [0.01, 0.1]}
    few = points({"model.depth": [8, 14], "recipe.lr": rates}, num_samples=2, seed=3)
    assert points({"model.depth": [8, 14], "recipe.lr": rates}, num_samples=5, seed=3)[:4] == few
    more = points({"model.depth": [20, 8, 14], "recipe.lr": rates}, num_samples=2, seed=3)
    assert len(more) == 6 and [point for point in more if point["model.depth"] != 20] == few


def test_a_grid_of_a_list_has_ranges_of_its_own_and_lists_alone_have_one_sample():
    space = [
        {"model.depth": [8], "recipe.lr": {"uniform": [0.1, 0.2]}},
        {"model.depth": [56], "recipe.lr": {"uniform": [0.01, 0.02]}},
        {"model.depth": [20], "seed": [0, 1]},
    ]
    check_space(space, num_samples=9)
    made = points(space, num_samples=9)
    assert len(made) == 9 + 9 + 2
    for point in made:
        low, high = {8: (0.1, 0.2), 56: (0.01, 0.02)}.get(point["model.depth"], (0, 0))
        assert low <= point.get("recipe.lr", 0) <= high
    assert {grid_of(space, point) for point in made} == {0, 1, 2}
    assert grid_of(space, {"model.depth": 8, "recipe.lr": 0.3}) is None
    assert grid_of(space, {"model.depth": 8}) is None


def test_a_trial_is_named_after_its_net_and_its_other_choices(workspace):
    def name(point):
        return trial_name(point, config)

    config = composed(workspace(), "model.depth=20")
    assert name({"model.depth": 56, "recipe.lr": 0.1}) == "ResNet-56, lr 0.1"
    assert name({"seed": 1, "model.residual": False}) == "plain-20, seed 1"
    assert name({"start.weights": "/a/b/net.pth", "recipe.lr": 0.05}) == "weights net.pth, lr 0.05"
    assert name({"start.weights": "run:0a,1b", "seed": 0}) == "weights one of 2 runs, seed 0"


GRIDS = [{"model.residual": [False, True], "model.depth": [20, 56]}, {"model.depth": [110], "seed": [0, 1, 2]}]


def test_several_grids_are_one_list_of_points():
    made = points(GRIDS)
    assert made[1] == {"model.residual": False, "model.depth": 56} and made[-1] == {"model.depth": 110, "seed": 2}
    assert made == example_points(GRIDS) and len(made) == 7


def test_examples_are_every_point_and_a_ranges_ends_and_middle():
    made = example_points({"seed": [0, 1], "recipe.lr": {"uniform": [0.1, 0.2]}})
    assert len(made) == 6 and {point["recipe.lr"] for point in made} >= {0.1, 0.2}


def test_no_point_is_there_twice():
    for space in ([{"seed": [0, 1]}, {"seed": [0]}], {"seed": [1, 0, 0]}):
        with pytest.raises(ValueError, match="seed=0 is there twice"):
            check_space(space)
    with pytest.raises(ValueError, match=r"model\.depth=8 is there twice"):
        check_space({"model.depth": [8, 8], "recipe.lr": {"uniform": [0.1, 0.2]}}, num_samples=2)
    check_space([{"recipe.lr": {"uniform": [0.1, 0.2]}}, {"recipe.lr": {"uniform": [0.2, 0.3]}}])
    rates = {"recipe.lr": {"uniform": [0.1, 0.2]}}
    with pytest.raises(ValueError, match=r"model\.depth=32 is there twice"):  # both grids draw one rate for it
        check_space([{"model.depth": [20, 32], **rates}, {"model.depth": [32, 56], **rates}])


def test_samples_are_for_ranges_and_suggestions_need_enough_points():
    with pytest.raises(ValueError, match="with lists alone would repeat the same training 2 times"):
        check_space({"seed": [0, 1]}, num_samples=2)
    check_space({"seed": [0, 1]}, num_samples=2, suggested=True)
    with pytest.raises(ValueError, match=r"sweep\.num_samples=3 with lists of 2 points in all"):
        check_space({"seed": [0, 1]}, num_samples=3, suggested=True)


def test_the_listed_values_of_a_key_can_be_changed():
    assert mapped(GRIDS, "seed", str) == [GRIDS[0], {"model.depth": [110], "seed": ["0", "1", "2"]}]
    assert mapped({"seed": [1]}, "seed", lambda seed: seed + 1) == {"seed": [2]}
    assert mapped({"seed": {"uniform": [0, 1]}}, "seed", str) == {"seed": {"uniform": [0, 1]}}


def test_values_are_those_of_the_space_or_the_default_where_a_grid_lacks_the_key():
    assert max(values_of({"recipe.lr": {"uniform": [0.1, 0.2]}}, "recipe.lr", 5)) == 0.2
    assert values_of(GRIDS, "model.depth", 8) == [20, 56, 110]
    assert values_of(GRIDS, "seed", 7) == [7, 0, 1, 2]
