"""A sweep of more samples or more values takes over the trials that earlier sweeps have trained for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pipeline.tuning.state import NAME, About, Trial, read
from pipeline.tuning.trials import name_of

ENDS = ("scheduler", "reduction_factor", "grace_epochs")  # settings that decide which trials are stopped
GROWS = ("space", "num_samples")  # what extends a sweep


def trained_elsewhere(runs: Path, about: About, *, suggested: bool) -> list[Trial]:
    """Trials of other sweeps that the sweep `about` would train in the same way, oldest sweep first.

    Finished and diverged trials count if all that decides a training is equal, stopped ones if the scheduler's settings are
    too. Suggestions depend on every trial before them, so a sweep of suggestions takes over only from one that it extends.

    Args:
        runs: folder of all runs.
        suggested: whether a searcher chooses the points.
    """
    own = _plain(about.facts)
    trials: dict[str, Trial] = {}
    paths = [path for path in runs.glob(f"{about.role}-*/{NAME}") if path.parent.name != about.sweep]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime):
        state = read(path, "its trials do not count here")
        facts = _plain(state.about.facts)
        if not facts or _training(facts) != _training(own):
            continue
        old, new = facts["sweep"], own["sweep"]
        if suggested and _without(old, GROWS) != _without(new, GROWS):
            continue
        alike = all(old.get(key) == new.get(key) for key in ENDS)
        statuses = ("finished", "diverged", "stopped") if alike else ("finished", "diverged")
        trials |= {name_of(trial.point): trial for trial in state.trials if trial.status in statuses}
    return list(trials.values())


def _training(facts: dict[str, Any]) -> dict[str, Any]:
    """What decides a trial beside its point."""
    return _without(facts, ("sweep", "points"))


def _without(values: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in keys}


def _plain(facts: dict[str, Any]) -> dict[str, Any]:
    """As JSON gives them back."""
    return json.loads(json.dumps(facts))
