"""The search space of conf/ as Ray Tune's."""

from __future__ import annotations

from typing import Any

DISTRIBUTIONS = ("uniform", "loguniform")  # by their names in ray.tune


def search_space(space: dict[str, Any]) -> dict[str, Any]:
    """Ray Tune's space: a list becomes a grid, {uniform|loguniform: [low, high]} a distribution to draw from.

    Raises:
        ValueError: neither of the two.
    """
    check_space(space)
    from ray import tune

    return {
        key: tune.grid_search(values)
        if isinstance(values, list)
        else getattr(tune, (name := next(iter(values))))(*values[name])
        for key, values in space.items()
    }


def check_space(space: dict[str, Any], num_samples: int = 1) -> None:
    """Raises ValueError for what `search_space` cannot make, and for repeats of a grid, which would train the same again."""
    for key, values in space.items():
        if not (isinstance(values, list) and values) and not _is_range(values):
            raise ValueError(
                f"sweep.space: {key} is {values!r}; give a list of values, or {{uniform: [low, high]}} or {{loguniform: [low, high]}}"
            )
    if num_samples > 1 and all(isinstance(values, list) for values in space.values()):
        raise ValueError(
            f"sweep.num_samples={num_samples} with lists alone would train each point {num_samples} times the same; "
            "give a range, or put seeds into sweep.space: {seed: [0, 1]}"
        )


def examples(values: Any) -> list[Any]:
    """Values that a trial may get: all of a list, the ends and one in between of a range."""
    if isinstance(values, list):
        return values
    low, high = next(iter(values.values()))
    return [low, low + 0.377 * (high - low), high]


def grid_size(space: dict[str, Any]) -> int:
    """Points of the grid that the lists of `space` span."""
    size = 1
    for values in space.values():
        size *= len(values) if isinstance(values, list) else 1
    return size


def trial_name(chosen: dict[str, Any]) -> str:
    """From the configuration: depth=20,lr=0.1."""
    return ",".join(
        f"{key.split('.')[-1]}={value:g}" if isinstance(value, float) else f"{key.split('.')[-1]}={value}"
        for key, value in chosen.items()
    )


def _is_range(values: Any) -> bool:
    if not isinstance(values, dict) or len(values) != 1:
        return False
    name, ends = next(iter(values.items()))
    return name in DISTRIBUTIONS and isinstance(ends, list) and len(ends) == 2 and ends[0] < ends[1]
