"""sweep.space: its checks, its points, and their form for Ray Tune."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.config import Config, with_overrides
from pipeline.errors import PipelineError
from pipeline.run.sources import weights_title

Space = dict[str, Any] | list[dict[str, Any]]  # one grid, or several grids whose points are trials of one sweep
POINT = "point"
NAMED = tuple(f"model.{key}" for key in ("family", "depth", "residual", "shortcut", "stride_on"))  # in the net's name


def points(space: Space, num_samples: int = 1, seed: int = 0) -> list[dict[str, Any]]:
    """Every point of a checked space that a sweep of a grid trains: each of the lists' combinations, `num_samples` times.

    {uniform|loguniform: [low, high]} is drawn anew for each point. A draw is a function of the seed, the sample, the key and
    the listed values beside it, so that more samples or more values leave the other points as they are. A grid of lists
    alone says all of its points, and has one sample.
    """
    made = []
    for sample, grid in itertools.product(range(num_samples), grids(space)):
        if sample and not has_ranges(grid):
            continue
        for listed in _combinations(grid):
            made.append(
                {
                    key: listed[key]
                    if key in listed
                    else _drawn(grid[key], json.dumps([seed, sample, key, listed], sort_keys=True))
                    for key in grid
                }
            )
    return made


def _combinations(grid: dict[str, Any]) -> list[dict[str, Any]]:
    """Every combination of a grid's listed values."""
    lists = {key: values for key, values in grid.items() if isinstance(values, list)}
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def _drawn(values: dict[str, list[float]], seed: str) -> float:
    distribution, (low, high) = next(iter(values.items()))
    draw = random.Random(seed)
    return (
        draw.uniform(low, high) if distribution == "uniform" else math.exp(draw.uniform(math.log(low), math.log(high)))
    )


def grid_of(space: Space, point: Mapping[str, Any]) -> int | None:
    """Place in a list of grids of the first that holds a point; 0 for a single grid, None for no grid."""

    def holds(values: Any, value: Any) -> bool:
        if isinstance(values, list):
            return value in values
        low, high = next(iter(values.values()))
        return isinstance(value, int | float) and low <= value <= high

    for at, grid in enumerate(grids(space)):
        if grid.keys() == point.keys() and all(holds(grid[key], value) for key, value in point.items()):
            return at
    return None


def for_tune(points: list[dict[str, Any]]) -> dict[str, Any]:
    """Points in Ray Tune's form; `chosen` is the way back."""
    from ray import tune

    return {POINT: tune.grid_search(points)}


def mapped(space: Space, key: str, function: Callable[[Any], Any]) -> Space:
    """`space` with `function` applied to the listed values of a key."""
    changed = [
        {**grid, key: list(map(function, grid[key]))} if isinstance(grid.get(key), list) else grid
        for grid in grids(space)
    ]
    return changed if isinstance(space, list) else changed[0]


def chosen(config: dict[str, Any]) -> dict[str, Any]:
    """A trial's values by dotted key, from Tune's configuration of the trial."""
    return config[POINT]


def check_space(space: Space, num_samples: int = 1, *, suggested: bool = False) -> None:
    """Raises PipelineError for points that would be trained twice. Values are checked with the configuration.

    Args:
        suggested: whether a searcher chooses `num_samples` points, so that all lists together must have as many.
    """
    seen: list[Any] = []
    for grid in grids(space):
        for listed in _combinations(grid):
            # Equal listed values draw equal values from equal ranges, whichever grid they are in.
            point = ({key: values for key, values in grid.items() if key not in listed}, listed)
            if point in seen:
                shown = ", ".join(f"{key}={value}" for key, value in listed.items())
                raise PipelineError(f"sweep.space: {shown} is there twice; leave it once")
            seen.append(point)
    if num_samples == 1 or has_ranges(space):
        return
    if not suggested:
        raise PipelineError(
            f"sweep.num_samples={num_samples} with lists alone would repeat the same training {num_samples} times; "
            "give a range, or put seeds into sweep.space: {seed: [0, 1]}"
        )
    if num_samples > len(seen):
        raise PipelineError(
            f"sweep.num_samples={num_samples} with lists of {len(seen)} points in all; give a range, or train them all "
            "(override: sweep.searcher=grid sweep.num_samples=1)"
        )


def has_ranges(space: Space) -> bool:
    return not all(isinstance(values, list) for grid in grids(space) for values in grid.values())


def example_points(space: Space) -> list[dict[str, Any]]:
    """Every point of the grids; a range contributes its ends and a value between them."""
    return [
        dict(zip(grid, values, strict=True))
        for grid in grids(space)
        for values in itertools.product(*map(_examples, grid.values()))
    ]


def values_of(space: Space, key: str, default: Any) -> list[Any]:
    """Values that trials may have for a key: the listed ones, examples of a range, `default` for a grid without the key."""
    return [value for grid in grids(space) for value in (_examples(grid[key]) if key in grid else [default])]


def trial_name(point: dict[str, Any], config: Config) -> str:
    """The net's display name where the point chooses the net, then the other choices: ResNet-20, lr 0.1."""

    def short(value: Any) -> str:
        return f"{value:g}" if isinstance(value, float) else weights_title(str(value))

    net = [with_overrides(config, point).model.name] if any(key in NAMED for key in point) else []
    others = [f"{key.split('.')[-1]} {short(value)}" for key, value in point.items() if key not in NAMED]
    return ", ".join(net + others)


def grids(space: Space) -> list[dict[str, Any]]:
    return space if isinstance(space, list) else [space]


def _examples(values: Any) -> list[Any]:
    if isinstance(values, list):
        return values
    low, high = next(iter(values.values()))
    return [low, low + 0.377 * (high - low), high]
