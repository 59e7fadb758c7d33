"""The terminal during a sweep: a progress bar over trials, a line when a trial ends or none has room to begin."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import ray
from ray.tune import Callback

from pipeline.errors import printable
from pipeline.progress import Progress, progress
from pipeline.tuning.draining import Preempted, is_lost
from pipeline.tuning.space import chosen

WAITING_S = 60.0  # between lines that say so


class TrialLines(Callback):
    """A progress bar with the best validation error; an unfinished trial counts by its share of steps.

    Args:
        title: of the progress bar.
        total: trials of the whole sweep; Tune makes them one after another.
        done: trials that an earlier attempt brought to their end; Tune does not know them.
        max_steps: steps of a trial whose point does not choose recipe.max_steps.
        needs: what Ray sets aside for a trial.
        score: how a trial's error is told, see `ModelConfig.score`.
    """

    def __init__(
        self, title: str, total: int, done: int, max_steps: int, needs: dict[str, float], score: Callable[[float], str]
    ) -> None:
        self._score = score
        self._title, self._total, self._earlier, self._max_steps, self._needs = title, total, done, max_steps, needs
        self._busy = time.monotonic()  # when a trial last ran, or a line last said that none does
        self._open = ExitStack()
        self._bar: Progress | None = None
        self._done = 0.0  # trials
        self._shares: dict[str, float] = {}  # by trial id

    def on_step_begin(self, iteration: int, trials: list, **_: Any) -> None:
        if self._bar is None:  # only now, so that the rate leaves out trials of an earlier, interrupted sweep
            self._done = self._sum(trials)
            self._bar = self._open.enter_context(progress(self._title, self._total, "trials", self._done))
        if any(trial.status == "RUNNING" for trial in trials):
            self._busy = time.monotonic()
        elif time.monotonic() - self._busy >= WAITING_S:
            self._busy = time.monotonic()
            needs = " and ".join(f"{amount:g} {resource}" for resource, amount in self._needs.items() if amount)
            free = ray.available_resources()
            left = ", ".join(f"{free.get(resource, 0):g} {resource}" for resource in self._needs)
            print(
                f"waiting for room on the Ray cluster: a trial needs {needs} on one machine; free are {left}",
                flush=True,
            )

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **_: Any) -> None:
        self._update(trials)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self._skip([trial])
        self._shares[trial.trial_id] = 1.0  # Tune sets the status only after this call
        self._update(trials)
        last = trial.last_result
        if why := last.get("error"):
            print(f"{trial} diverged: {why}", flush=True)
        elif (error := last.get("best/err1")) is not None:  # the sweep may have ended before its first report
            print(f"{trial}: validation {self._score(error)} after {last['step']:,} steps", flush=True)

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        what = "was moved from its machine" if failure(trial).drained else "failed"
        print(f"{trial} {what}{_where_and_why(trial)}; it goes on from its last checkpoint", flush=True)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        print(f"{trial} failed{_where_and_why(trial)}, and is not tried again", flush=True)

    def on_experiment_end(self, trials: list, **_: Any) -> None:
        self._update(trials)
        self._open.close()

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": ExitStack(), "_bar": None}

    def _update(self, trials: list) -> None:
        if self._bar is not None:
            self._skip(trials)
            before, self._done = self._done, self._sum(trials)
            errors = [error for trial in trials if (error := (trial.last_result or {}).get("best/err1")) is not None]
            if errors:
                self._bar.note(f"best validation {self._score(min(errors))}")
            self._bar.advance(self._done - before)

    def _skip(self, trials: list) -> None:
        """Leaves out of the rate what runs had made before this sweep, or this part of it, took them up."""
        for trial in trials:
            made = (trial.last_result or {}).get("from_step", 0)
            if self._bar is not None and made and not self._shares.get(trial.trial_id):
                self._shares[trial.trial_id] = min(made / self._steps(trial), 1.0)
                self._bar.skip(self._shares[trial.trial_id])
                self._done += self._shares[trial.trial_id]

    def _steps(self, trial: Any) -> int:
        return chosen(trial.config).get("recipe.max_steps", self._max_steps)

    def _sum(self, trials: list) -> float:
        """Trials that have ended plus the other trials' shares of their steps; never lower than before."""
        for trial in trials:
            step = (trial.last_result or {}).get("step", 0)
            share = 1.0 if trial.is_finished() else min(step / self._steps(trial), 1.0)
            self._shares[trial.trial_id] = max(share, self._shares.get(trial.trial_id, 0.0))
        return self._earlier + sum(self._shares.values())


class Failure(NamedTuple):
    """What Tune wrote of a trial's last error."""

    why: str  # its last line
    host: str  # that it names, or from which the trial last reported; "" without either
    lost: bool  # whether the trial's machine was lost, and the trial did nothing wrong
    drained: bool  # whether the trial left its machine in time


def failure(trial: Any) -> Failure:
    path = trial.error_file
    text = Path(path).read_text(encoding="utf-8", errors="replace").strip() if path and Path(path).exists() else ""
    text = text.rsplit("Failure # ", 1)[-1]  # Ray appends each failure
    lines, hosts = text.splitlines(), re.findall(r"\bip(?:=|: )([\w.:-]+)", text)
    why = printable(lines[-1].strip()) if lines else "Ray gave no reason"
    host = hosts[-1] if hosts else _last_host(trial)
    return Failure(why.split(f"{Preempted.__name__}: ")[-1], host, is_lost(text), Preempted.__name__ in why)


def _last_host(trial: Any) -> str:
    """From which the trial last reported; "" before that."""
    return (getattr(trial, "last_result", None) or {}).get("node_ip", "")


def _where_and_why(trial: Any) -> str:
    why, host, *_ = failure(trial)
    return f"{f' on {host}' if host else ''}: {why}"
