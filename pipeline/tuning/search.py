"""sweep.search: the sweep that runs before sweep.space, and the values that it chooses for it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from pipeline.config import BudgetConfig, Config, SearchConfig, with_overrides
from pipeline.errors import PipelineError
from pipeline.tuning.space import example_points


def search_sweep(config: Config, search: SearchConfig) -> Config:
    """The search as a sweep of its own: a grid, every trial to its end, since means over unequal lengths compare nothing."""
    grid: dict[str, Any] = {"searcher": "grid", "num_samples": 1, "scheduler": "asha", "reduction_factor": 0}
    sweep = replace(config.sweep, space=search.space, search=None, budget=BudgetConfig(), **grid)
    return replace(config, sweep=sweep)


def main_sweep(config: Config, values: dict[str, Any]) -> Config:
    """The sweep of sweep.space, with the values that the search chose in its configuration."""
    return with_overrides(replace(config, sweep=replace(config.sweep, search=None)), values)


def choices(search: SearchConfig) -> list[dict[str, Any]]:
    """Every combination of values that the search can choose, in the order in which they are listed."""
    return example_points({key: search.space[key] for key in search.take})


def is_shortened(config: Config, point: dict[str, Any]) -> bool:
    """Whether a search's trial takes fewer steps than the recipe, or fewer images than the sweep."""
    steps, images = config.recipe.max_steps, config.data.num_train
    fewer = (point.get("data.num_train", images) or math.inf) < (images or math.inf)  # 0: all images
    return fewer or point.get("recipe.max_steps", steps) < steps


def outcome(search: SearchConfig, trials: list[dict[str, Any]]) -> dict[str, Any]:
    """What the search came to, for leaderboard.json.

    Args:
        trials: of the search's own leaderboard.
    Returns:
        values: for each combination of the values to choose from its config, the mean validation error of its trials
        (a fraction; a trial that did not finish, for example because it diverged, counts as 1) and their number.
        chosen: the config with the lowest mean; of equal ones the first. trials: as given.
    Raises:
        PipelineError: no trial finished.
    """
    if all(trial["status"] != "finished" for trial in trials):
        raise PipelineError(
            "every trial of sweep.search diverged, so it can choose nothing; list other values, for example lower learning "
            f"rates, in sweep.search.space, which varies {', '.join(search.space)}"
        )
    values: list[dict[str, Any]] = []
    for choice in choices(search):
        errors = [
            trial["val_err1"] if trial["status"] == "finished" else 1.0
            for trial in trials
            if choice.items() <= trial["config"].items()
        ]
        values.append({"config": choice, "val_err1": sum(errors) / len(errors), "trials": len(errors)})
    best = min(values, key=lambda value: value["val_err1"])
    return {"chosen": best["config"], "values": values, "trials": trials}


def sentence(result: dict[str, Any]) -> str:
    """For example: the search chose recipe.lr=0.2 by mean validation error: recipe.lr=0.1 14.00 %, recipe.lr=0.2 12.00 %."""

    def named(config: dict[str, Any]) -> str:
        return " ".join(f"{key}={value}" for key, value in config.items())

    means = ", ".join(f"{named(value['config'])} {100 * value['val_err1']:.2f} %" for value in result["values"])
    return f"the search chose {named(result['chosen'])} by mean validation error: {means}"
