"""Optuna's TPE as a function: the next point of a sweep from the trials so far.

No sampler is kept. Each suggestion builds a study of the sweep's own record and seeds the sampler with the number of the
trial, so an interrupted sweep needs no other state, and equal records get equal suggestions.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

from optuna import Study, create_study, logging
from optuna import Trial as Asked
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from pipeline.tuning.space import Space, grid_of, grids, has_ranges, points
from pipeline.tuning.state import Trial

Distribution = CategoricalDistribution | FloatDistribution

TRIES = 20  # of TPE, which may suggest a point again; then one is drawn at random
GRID = "grid"  # the parameter that says which of several grids a point is of
STATES = {
    "finished": TrialState.COMPLETE,
    "diverged": TrialState.COMPLETE,  # all wrong, as its record says
    "stopped": TrialState.PRUNED,
    "unfinished": TrialState.RUNNING,  # which TPE takes for a bad one, so that trials side by side differ
}


def suggested(space: Space, seed: int, trials: Sequence[Trial]) -> dict[str, Any] | None:
    """The point of trial number `len(trials)`; None if the trials have every point of the space.

    The first ten are drawn at random. A function of its arguments: trials that end in another order may lead to others.
    """
    taken = [trial.point for trial in trials]
    if not has_ranges(space) and all(point in taken for point in points(space)):
        return None
    logging.set_verbosity(logging.WARNING)
    study = _study(space, trials)
    for attempt in itertools.count():
        study.sampler = _sampler(seed, len(trials), attempt)
        asked = study.ask()
        point = _point(space, asked)
        if point not in taken:
            return point
        study.tell(asked, state=TrialState.FAIL)  # which TPE leaves out
    raise AssertionError("unreachable")


def _study(space: Space, trials: Sequence[Trial]) -> Study:
    study = create_study(direction="minimize")
    for trial in trials:
        if (at := grid_of(space, trial.point)) is not None and trial.status in STATES:
            study.add_trial(_told(space, at, trial))
    return study


def _told(space: Space, at: int, trial: Trial) -> FrozenTrial:
    """A trial as Optuna keeps it."""
    params, state = _params(space, at), STATES[trial.status]
    reached = state != TrialState.RUNNING
    return create_trial(
        state=state,
        value=trial.val_err1 if reached else None,
        params={name: _entered(values, trial.point.get(key, at)) for name, (key, _, values) in params.items()},
        distributions={name: kind for name, (_, kind, _) in params.items()},
        intermediate_values=dict(trial.reports) if state == TrialState.PRUNED else None,
    )


def _point(space: Space, asked: Asked) -> dict[str, Any]:
    """The point that a study suggests."""
    at = asked.suggest_categorical(GRID, range(len(grids(space)))) if len(grids(space)) > 1 else 0
    params = {name: param for name, param in _params(space, at).items() if name != GRID}
    return {
        key: values[asked.suggest_categorical(name, kind.choices)]
        if isinstance(kind, CategoricalDistribution)
        else asked.suggest_float(name, kind.low, kind.high, log=kind.log)
        for name, (key, kind, values) in params.items()
    }


def _params(space: Space, at: int) -> dict[str, tuple[str, Distribution, Any]]:
    """Optuna's parameters of a grid: key, distribution and values by name. Listed values are chosen by their place."""
    every = grids(space)
    several = len(every) > 1
    params: dict[str, tuple[str, Distribution, Any]] = {}
    if several:
        params[GRID] = (GRID, _distribution(list(range(len(every)))), list(range(len(every))))
    for key, values in every[at].items():
        params[f"{key} in grid {at}" if several else key] = (key, _distribution(values), values)
    return params


def _distribution(values: Any) -> Distribution:
    if isinstance(values, list):
        return CategoricalDistribution(tuple(range(len(values))))
    name, (low, high) = next(iter(values.items()))
    return FloatDistribution(low, high, log=name == "loguniform")


def _entered(values: Any, value: Any) -> Any:
    return values.index(value) if isinstance(values, list) else value


def _sampler(seed: int, number: int, attempt: int) -> BaseSampler:
    own = int.from_bytes(hashlib.sha256(f"{seed} {number} {attempt}".encode()).digest()[:4], "big")
    if attempt >= TRIES:
        return RandomSampler(seed=own)
    return TPESampler(seed=own, constant_liar=True)
