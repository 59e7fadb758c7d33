"""Population based training over the learning rate (Jaderberg et al. 2017, arXiv 1711.09846), as functions.

Members train side by side. After each interval the worst copy one of the best, with its weights, optimiser state and step,
and change its learning rate. What a member trains in an interval is a run that goes on from another run's last checkpoint
(start.checkpoint), so a generation is trials like others, and an interrupted population needs no other state than theirs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.config import Config
from pipeline.config.training import NEVER
from pipeline.tuning.space import points
from pipeline.tuning.state import DONE, Trial

FACTORS = (0.8, 1.25)  # of the copied learning rate
PARENT = "start.checkpoint"


def population_config(config: Config) -> Config:
    """`config` for members, which are validated at the end of an interval alone: the weights there are compared and copied."""
    return replace(config, trainer=replace(config.trainer, val_every_epochs=NEVER))


def generations(config: Config) -> int:
    return config.recipe.max_steps // config.sweep.interval_steps


def size(config: Config) -> int:
    """Trials: one for each member and interval."""
    return config.sweep.population * generations(config)


def is_last(config: Config, point: dict[str, Any]) -> bool:
    """Whether a trial makes the last steps of a member."""
    return point["recipe.max_steps"] == config.recipe.max_steps


def first_step(config: Config, point: dict[str, Any]) -> int:
    """At which a trial begins, where its parent has ended."""
    return point["recipe.max_steps"] - config.sweep.interval_steps


def proposed(config: Config, trials: Sequence[Trial]) -> dict[str, Any] | None:
    """The point of trial number `len(trials)`, generation by generation; None until the generation before it is done.

    A function of its arguments: which member is copied and how its rate changes are drawn from the seed, the generation and
    the member. The range of recipe.lr bounds the first generation's rates alone.
    """
    generation, member = divmod(len(trials), config.sweep.population)
    seed = config.seed + member
    steps = {"seed": seed, "recipe.max_steps": (generation + 1) * config.sweep.interval_steps}
    if generation == 0:
        return {**points(config.sweep.space, config.sweep.population, config.seed)[member], **steps}
    before = trials[(generation - 1) * config.sweep.population : generation * config.sweep.population]
    best, worst = quantiles(before, config.sweep.quantile)
    if not best or any(trial.status not in DONE for trial in before):
        return None
    parent, factor = member, 1.0
    if member in worst:
        draw = random.Random(json.dumps([config.seed, generation, member]))
        parent, factor = draw.choice(best), draw.choice(FACTORS)
    rate = before[parent].point["recipe.lr"] * factor
    return {"recipe.lr": rate, **steps, PARENT: before[parent].key}


def quantiles(generation: Sequence[Trial], quantile: float) -> tuple[list[int], list[int]]:
    """Members that are copied and members that copy: the best and worst by validation error, one or more each.

    A member that diverged copies and is never copied.
    """
    ranked = sorted(
        range(len(generation)), key=lambda at: (generation[at].status == "diverged", _error(generation[at]), at)
    )
    count = max(1, int(len(generation) * quantile + 1e-9))
    diverged = [at for at in ranked if generation[at].status == "diverged"]
    best = [at for at in ranked[:count] if at not in diverged]
    return best, list(dict.fromkeys([*ranked[-count:], *diverged]))


def stuck(config: Config, trials: Sequence[Trial]) -> str:
    """Why no further generation can begin, as a sentence; "" if one can, or if none is missing."""
    whole = len(trials) - len(trials) % config.sweep.population
    last = trials[whole - config.sweep.population : whole]
    if whole < size(config) and last and all(trial.status == "diverged" for trial in last):
        return (
            f"all {config.sweep.population} members of the population diverged before step {last[0].point['recipe.max_steps']}, "
            "so there is none to copy; lower the ends of recipe.lr in sweep.space"
        )
    return ""


def history(config: Config, trials: Sequence[Trial], keys: Sequence[str]) -> dict[str, Any]:
    """What the population did, for leaderboard.json.

    Args:
        keys: of the members' last trials, the best first.
    Returns:
        segments: for each trial its member, steps, learning rate, key, parent's key, validation error (a fraction) and
        status. best: the keys of the best member's trials, of its ancestors and its own, in the order of steps.
    """
    members = config.sweep.population
    segments = [
        {
            "member": number % members,
            "from_step": first_step(config, trial.point),
            "to_step": trial.point["recipe.max_steps"],
            "lr": trial.point["recipe.lr"],
            "key": trial.key,
            "parent": trial.point.get(PARENT, ""),
            "val_err1": trial.val_err1,
            "status": trial.status,
        }
        for number, trial in enumerate(trials)
    ]
    parents, line = {segment["key"]: segment["parent"] for segment in segments}, []
    key = next(filter(None, keys), "")
    while key:
        line.append(key)
        key = parents[key]
    return {"segments": segments, "best": line[::-1]}


def latest(config: Config, trials: Sequence[Trial]) -> list[Trial]:
    """The last trial of each member that is done; its first one, if none is."""
    members = [list(trials[member :: config.sweep.population]) for member in range(config.sweep.population)]
    return [next((t for t in reversed(own) if t.status in DONE), own[0]) for own in members if own]


def _error(trial: Trial) -> float:
    return 1.0 if trial.val_err1 is None or trial.status == "diverged" else trial.val_err1
