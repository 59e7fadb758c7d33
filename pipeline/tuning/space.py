"""The search space of conf/ as Ray Tune's."""

from __future__ import annotations

from typing import Any


def search_space(space: dict[str, Any]) -> dict[str, Any]:
    """Ray Tune's space: a list becomes a grid, {uniform|loguniform: [low, high]} a distribution to draw from.

    Raises:
        ValueError: neither of the two.
    """
    from ray import tune

    draws = {"uniform": tune.uniform, "loguniform": tune.loguniform}
    made: dict[str, Any] = {}
    for key, values in space.items():
        if isinstance(values, list) and values:
            made[key] = tune.grid_search(values)
        elif (
            isinstance(values, dict)
            and len(values) == 1
            and (name := next(iter(values))) in draws
            and _is_range(values[name])
        ):
            made[key] = draws[name](*values[name])
        else:
            raise ValueError(
                f"sweep.space: {key} is {values!r}; give a list of values, or {{uniform: [low, high]}} or {{loguniform: [low, high]}}"
            )
    return made


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
    return isinstance(values, list) and len(values) == 2 and values[0] < values[1]
