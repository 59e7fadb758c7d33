"""The file trials.json: what a sweep is, who trains it, and what its trials have come to, in plain values.

It is all that `pipeline sweep status` reads, on any machine that shares the folder.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole
from pipeline.record import fits

NAME = "trials.json"
BEAT_S = 10.0  # between writes at the most, also while nothing is reported
ENDED = "ended"  # by itself or by the scheduler, which the run's own status tells apart
DONE = ("finished", "stopped", "diverged")  # nothing is left to train


@dataclass
class Trial:
    """One point of the space. Times are seconds since 1970, 0 for never.

    Attributes:
        status: unfinished, ended, failed, or one of DONE.
        val_err1: the lowest validation error.
        reports: epoch and validation error of each validation, on which the scheduler decides.
    """

    point: dict[str, Any]
    key: str = ""  # of its run, once it has reported
    status: str = "unfinished"
    error: str = ""  # why the loss diverged
    val_err1: float | None = None
    steps: int = 0  # those of the run that it goes on from included
    reports: list[tuple[int, float]] = field(default_factory=list)
    name: str = ""  # for people, once it has begun
    failure: str = ""  # why it last failed, until it reports again
    host: str = ""  # that it last ran on
    began: float = 0.0  # last
    over: float = 0.0  # when it last ended or failed; 0 while it trains
    first_step: int = 0  # at which it begins


@dataclass(frozen=True, kw_only=True)
class About:
    """What the sweep is."""

    sweep: str = ""  # its name
    role: str = "sweep"
    data: str = ""  # name of the data set
    facts: dict[str, Any] = field(default_factory=dict)  # see `Sweep.facts`
    size: int = 0  # trials of the whole sweep
    max_steps: int = 0  # of a trial whose point does not choose recipe.max_steps
    num_val: int = 0  # validation images
    detects: bool = False  # whether trials train detectors, whose error is 1 - AP


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """The last process that trained trials of the sweep. Times are seconds since 1970."""

    host: str = ""
    pid: int = 0
    began: float = 0.0
    written: float = 0.0
    over: str = ""  # why it ended; "" while it runs, and after a kill
    earlier_s: float = 0.0  # that earlier attempts took
    progress: float = 0.0  # trials' worth of training when it began
    budget: dict[str, float] = field(default_factory=dict)  # the limits that are set
    cluster: dict[str, list[float]] = field(default_factory=dict)  # resource -> in use, in all

    @property
    def stop(self) -> str:
        """Name of the file, beside trials.json, that asks this attempt and no other to end."""
        return f"stop-{self.host}-{self.pid}-{self.began:.3f}.json"

    @property
    def seconds(self) -> float:
        """Of all attempts together."""
        return self.earlier_s + max(0.0, self.written - self.began)


@dataclass(frozen=True)
class State:
    """The content of a trials.json."""

    about: About = About()
    attempt: Attempt = Attempt()
    trials: tuple[Trial, ...] = ()

    @property
    def progress(self) -> float:
        """Trials' worth of training; an unfinished trial counts by its share of steps."""
        return sum(self._share(trial) for trial in self.trials)

    def _share(self, trial: Trial) -> float:
        steps = trial.point.get("recipe.max_steps", self.about.max_steps)
        share = (trial.steps - trial.first_step) / (steps - trial.first_step) if trial.steps and steps else 0.0
        return 1.0 if trial.status in DONE else min(share, 1.0)


def read(path: Path, remedy: str = "the sweep goes on from the runs that have finished") -> State:
    """An empty state if there is none, or if it is not understood, which stderr is told."""
    entries = read_if_whole(path)
    try:
        trials = tuple(
            Trial(**{**entry, "reports": [tuple(r) for r in entry["reports"]]}) for entry in entries["trials"]
        )
        # Before there were these two, a sweep kept its trials alone.
        state = State(About(**entries.get("about", {})), Attempt(**entries.get("attempt", {})), trials)
        understood = fits(state.about, About) and fits(state.attempt, Attempt)
        understood &= all(fits(trial, Trial) and _is_key(trial.key) for trial in trials)
        understood &= bool(trials) or not entries or bool(state.about.sweep)
    except (AttributeError, KeyError, TypeError):
        state, understood = State(), not entries
    if understood:
        return state
    print(f"{path} is not understood; {remedy}", file=sys.stderr)
    return State()


def _is_key(key: str) -> bool:
    return bool(re.fullmatch("[0-9a-f]{12}|", key))
