"""conf/'s search space as Ray Tune's."""

from __future__ import annotations

import pytest
from runs import composed

from pipeline.tuning.space import (
    POINT,
    check_space,
    chosen,
    example_points,
    grid_size,
    mapped,
    search_space,
    trial_name,
    values_of,
)


def test_lists_become_a_grid_and_ranges_are_drawn_from():
    space = search_space({"model.depth": [8, 14], "recipe.lr": {"loguniform": [0.01, 0.1]}})
    assert space["model.depth"] == {"grid_search": [8, 14]}
    assert 0.01 <= space["recipe.lr"].sample() <= 0.1
    assert grid_size({"model.depth": [8, 14], "seed": [0, 1, 2], "recipe.lr": {"uniform": [0.1, 0.2]}}) == 6


def test_a_trial_is_named_after_its_net_and_its_other_choices(workspace):
    def name(point):
        return trial_name(point, config)

    config = composed(workspace(), "model.depth=20")
    assert name({"model.depth": 56, "recipe.lr": 0.1}) == "ResNet-56, lr 0.1"
    assert name({"seed": 1, "model.residual": False}) == "plain-20, seed 1"
    assert name({"start.weights": "/a/b/net.pth", "recipe.lr": 0.05}) == "weights net.pth, lr 0.05"


GRIDS = [{"model.residual": [False, True], "model.depth": [20, 56]}, {"model.depth": [110], "seed": [0, 1, 2]}]


def test_several_grids_are_one_list_of_points():
    points = search_space(GRIDS)[POINT]["grid_search"]
    assert len(points) == grid_size(GRIDS) == 7
    assert points[1] == {"model.residual": False, "model.depth": 56} and points[-1] == {"model.depth": 110, "seed": 2}
    assert [chosen({POINT: point}) for point in points] == points == example_points(GRIDS)
    assert chosen({"model.depth": 20}) == {"model.depth": 20}


def test_examples_are_every_point_and_a_ranges_ends_and_middle():
    points = example_points({"seed": [0, 1], "recipe.lr": {"uniform": [0.1, 0.2]}})
    assert len(points) == 6 and {point["recipe.lr"] for point in points} >= {0.1, 0.2}


def test_several_grids_hold_no_point_twice():
    with pytest.raises(ValueError, match="seed=0 is in two grids"):
        check_space([{"seed": [0, 1]}, {"seed": [0]}])


def test_the_listed_values_of_a_key_can_be_changed():
    assert mapped(GRIDS, "seed", str) == [GRIDS[0], {"model.depth": [110], "seed": ["0", "1", "2"]}]
    assert mapped({"seed": [1]}, "seed", lambda seed: seed + 1) == {"seed": [2]}
    assert mapped({"seed": {"uniform": [0, 1]}}, "seed", str) == {"seed": {"uniform": [0, 1]}}


def test_values_are_those_of_the_space_or_the_default_where_a_grid_lacks_the_key():
    assert max(values_of({"recipe.lr": {"uniform": [0.1, 0.2]}}, "recipe.lr", 5)) == 0.2
    assert values_of(GRIDS, "model.depth", 8) == [20, 56, 110]
    assert values_of(GRIDS, "seed", 7) == [7, 0, 1, 2]
