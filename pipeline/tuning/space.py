"""sweep.space: its checks, its points, and their form for Ray Tune."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable
from typing import Any

from pipeline.config import Config, with_overrides
from pipeline.errors import PipelineError

Space = dict[str, Any] | list[dict[str, Any]]  # one grid, or several grids whose points are trials of one sweep
POINT = "point"
NAMED = tuple(f"model.{key}" for key in ("family", "depth", "residual", "shortcut", "stride_on"))  # in the net's name


def points(space: Space, num_samples: int = 1, seed: int = 0) -> list[dict[str, Any]]:
    """Every point of a checked space that a sweep trains: each of the lists' combinations, `num_samples` times.

    {uniform|loguniform: [low, high]} is drawn anew for each point; the seed alone decides the draws.
    """
    draw = random.Random(seed)

    def drawn(name: str, ends: list[float]) -> float:
        low, high = ends if name == "uniform" else map(math.log, ends)
        value = draw.uniform(low, high)
        return value if name == "uniform" else math.exp(value)

    made = []
    for _, grid in itertools.product(range(num_samples), _grids(space)):
        lists = {key: values for key, values in grid.items() if isinstance(values, list)}
        for combination in itertools.product(*lists.values()):
            listed = dict(zip(lists, combination, strict=True))
            made.append({key: listed[key] if key in listed else drawn(*next(iter(grid[key].items()))) for key in grid})
    return made


def for_tune(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Points in Ray Tune's form; `chosen` is the way back."""
    from ray import tune

    return {POINT: tune.grid_search(points)}


def mapped(space: Space, key: str, function: Callable[[Any], Any]) -> Space:
    """`space` with `function` applied to the listed values of a key."""
    grids = [
        {**grid, key: list(map(function, grid[key]))} if isinstance(grid.get(key), list) else grid
        for grid in _grids(space)
    ]
    return grids if isinstance(space, list) else grids[0]


def chosen(config: dict[str, Any]) -> dict[str, Any]:
    """A trial's values by dotted key, from Tune's configuration of the trial."""
    return config[POINT]


def check_space(space: Space, num_samples: int = 1) -> None:
    """Raises PipelineError for points that would be trained twice. Values are checked with the configuration."""
    points = example_points(space)
    if repeated := [point for at, point in enumerate(points) if point in points[:at]]:
        point = ", ".join(f"{key}={value}" for key, value in repeated[0].items())
        raise PipelineError(f"sweep.space: {point} is there twice; leave it once")
    if num_samples > 1 and not has_ranges(space):
        raise PipelineError(
            f"sweep.num_samples={num_samples} with lists alone would repeat the same training {num_samples} times; "
            "give a range, or put seeds into sweep.space: {seed: [0, 1]}"
        )


def has_ranges(space: Space) -> bool:
    return not all(isinstance(values, list) for grid in _grids(space) for values in grid.values())


def example_points(space: Space) -> list[dict[str, Any]]:
    """Every point of the grids; a range contributes its ends and a value between them."""
    return [
        dict(zip(grid, values, strict=True))
        for grid in _grids(space)
        for values in itertools.product(*map(_examples, grid.values()))
    ]


def values_of(space: Space, key: str, default: Any) -> list[Any]:
    """Values that trials may have for a key: the listed ones, examples of a range, `default` for a grid without the key."""
    return [value for grid in _grids(space) for value in (_examples(grid[key]) if key in grid else [default])]


def trial_name(point: dict[str, Any], config: Config) -> str:
    """The net's display name where the point chooses the net, then the other choices: ResNet-20, lr 0.1."""

    def short(value: Any) -> str:
        return (
            f"{value:g}" if isinstance(value, float) else str(value).rsplit("/", 1)[-1]
        )  # a path is shown by its file name

    net = [with_overrides(config, point).model.name] if any(key in NAMED for key in point) else []
    others = [f"{key.split('.')[-1]} {short(value)}" for key, value in point.items() if key not in NAMED]
    return ", ".join(net + others)


def _grids(space: Space) -> list[dict[str, Any]]:
    return space if isinstance(space, list) else [space]


def _examples(values: Any) -> list[Any]:
    if isinstance(values, list):
        return values
    low, high = next(iter(values.values()))
    return [low, low + 0.377 * (high - low), high]
