"""The trials of a running sweep, kept in a file from which an interrupted sweep goes on.

Ray Tune keeps a state of its own, in pickles. Those are never read: whoever can write the folder could run code with them.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole, write_json
from pipeline.run import RUN
from pipeline.tuning.state import BEAT_S, DONE, ENDED, NAME, About, Attempt, State, Trial, read

PERIOD_S, SHARE = 1.0, 0.05  # writes while trials report: at most one a second, at most this share of the time


class Trials:
    """The trials of a sweep, those of its earlier attempts included, kept in `folder`/trials.json.

    Args:
        folder: of the sweep's own run.
        points: all that the sweep trains, see `space.points`; None: those that are there, and what `add` adds.
        runs: folder of all runs.
        about: the sweep.
        elsewhere: trials of other sweeps, which count as this sweep's when it begins.
        require: called before each write; may raise to prevent it.
        bring: makes this machine's copy of a run's folder the newest one.
    """

    def __init__(
        self,
        folder: Path,
        points: Sequence[dict[str, Any]] | None,
        runs: Path,
        about: About | None = None,
        elsewhere: Sequence[Trial] = (),
        require: Callable[[], object] = lambda: None,
        bring: Callable[[Path], object] = lambda folder: None,
    ) -> None:
        self._bring = bring
        self._path, self._runs, self._require, self._written = folder / NAME, runs, require, -BEAT_S
        self._pause_s, self._is_open = PERIOD_S, False
        earlier = read(self._path)
        self._about, self._attempt = about or earlier.about, replace(earlier.attempt, cluster={})
        by_name = {name_of(trial.point): trial for trial in earlier.trials or elsewhere}
        if points is None:
            self.all = list(by_name.values())
        else:
            self.all = [by_name.get(name_of(point), Trial(point)) for point in points]
        self._by_name = {name_of(trial.point): trial for trial in self.all}
        self.settle()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles what it calls for a state that nobody reads, and a claim on a store cannot be pickled."""
        return {}

    @property
    def left(self) -> list[dict[str, Any]]:
        """Points that are not trained to their end, in order."""
        return [trial.point for trial in self.all if trial.status not in DONE]

    @property
    def done(self) -> int:
        return sum(trial.status in DONE for trial in self.all)

    @property
    def steps(self) -> int:
        """Optimiser steps of all trials."""
        return sum(max(0, trial.steps - trial.first_step) for trial in self.all)

    @property
    def hours(self) -> float:
        """During which this attempt and earlier ones trained trials."""
        return (self._now() if self._is_open else self._attempt).seconds / 3600

    @property
    def stop(self) -> Path:
        """The file that asks the present attempt to end."""
        return self._path.with_name(self._attempt.stop)

    def of(self, point: Mapping[str, Any]) -> Trial:
        return self._by_name[name_of(point)]

    def number(self, point: Mapping[str, Any]) -> int:
        """Place of a trial in the sweep, from 0."""
        trial = self.of(point)
        return next(at for at, other in enumerate(self.all) if other is trial)

    def add(self, point: dict[str, Any], first_step: int = 0) -> None:
        """A trial that a searcher has suggested."""
        self.all.append(Trial(point, first_step=first_step))
        self._by_name[name_of(point)] = self.all[-1]
        self.write()

    def open(self, budget: Mapping[str, float]) -> None:
        """Begins an attempt at training what is left, failed trials included."""
        for trial in self.all:
            trial.status = "unfinished" if trial.status == "failed" else trial.status
        for unread in self._path.parent.glob("stop-*.json"):  # by an attempt that was killed
            unread.unlink(missing_ok=True)
        now, progress = time.time(), self._state().progress
        self._attempt = Attempt(
            host=socket.gethostname(),
            pid=os.getpid(),
            began=now,
            written=now,
            earlier_s=self._attempt.seconds,
            progress=progress,
            budget=dict(budget),
        )
        self._is_open = True
        self.write()

    def close(self, why: str) -> None:
        """Ends the attempt; trials that have ended get their status."""
        self.settle()
        self._attempt = replace(self._now(), over=why, cluster={})
        self._is_open = False
        self.write()
        self.stop.unlink(missing_ok=True)

    def beat(self, load: Callable[[], dict[str, list[float]]]) -> None:
        """Writes a sign of life with the cluster's load, if none was written for a while."""
        if time.monotonic() - self._written > BEAT_S:
            self._attempt = replace(self._attempt, cluster=load())
            self.write()

    def begin(self, point: Mapping[str, Any], name: str) -> None:
        trial = self.of(point)
        trial.name, trial.began, trial.over = name, time.time(), 0.0

    def report(self, point: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Takes up a trial's report to Ray Tune. One that it diverged names no run and no steps, so that the last ones stay."""
        trial = self.of(point)
        trial.key, trial.error = result.get("key") or trial.key, result.get("error", "")
        trial.val_err1, trial.steps = result["best/err1"], result["step"] or trial.steps
        trial.failure, trial.host = "", result.get("hostname", "")
        if not any(epoch >= result["epoch"] for epoch, _ in trial.reports):
            trial.reports.append((result["epoch"], result["val/err1"]))
        if time.monotonic() - self._written > self._pause_s:
            self.write()

    def end(self, point: Mapping[str, Any]) -> None:
        """The trial has ended by itself or by the scheduler."""
        trial = self.of(point)
        trial.status, trial.over = ENDED, time.time()
        self._settle(trial)
        self.write()

    def leave(self, point: Mapping[str, Any]) -> None:
        """The trial has ended because the sweep does: it is unfinished, unless it came to its end."""
        self.end(point)
        if (trial := self.of(point)).status == "stopped":
            trial.status = "unfinished"
            self.write()

    def fail(self, point: Mapping[str, Any], failure: str, host: str, *, for_good: bool) -> None:
        """`failure` is a sentence; `host` may be "" for the one that the trial last reported from."""
        trial = self.of(point)
        trial.failure, trial.host, trial.over = failure, host or trial.host, time.time() if for_good else 0.0
        trial.status = "failed" if for_good else trial.status
        self.write()

    def settle(self) -> None:
        """Gives trials that have ended their status, and takes it from finished ones whose run is no longer there."""
        for trial in self.all:
            self._settle(trial)

    def _settle(self, trial: Trial) -> None:
        if trial.status not in (ENDED, "finished"):
            return
        status = self._run_status(self._runs / trial.key) if trial.key and not trial.error else ""
        if status == "finished":
            trial.status = "finished"
        elif trial.status == ENDED and trial.error:
            trial.status = "diverged"
        elif trial.status == ENDED and trial.key and status != "interrupted":
            trial.status = "stopped"
        else:  # also one that left with its sweep, which had not noticed yet
            trial.status = "unfinished"

    def _run_status(self, folder: Path) -> Any:
        if read_if_whole(folder / RUN).get("status") != "finished":
            self._bring(folder)
        return read_if_whole(folder / RUN).get("status")

    def _state(self) -> State:
        return State(self._about, self._attempt, tuple(self.all))

    def _now(self) -> Attempt:
        return replace(self._attempt, written=time.time())

    def write(self) -> None:
        begun = time.monotonic()
        if self._is_open:
            self._attempt = self._now()
        parts = {"about": vars(self._about), "attempt": vars(self._attempt), "trials": list(map(vars, self.all))}
        write_json(self._path, parts, indent=None, require=self._require)
        self._written = time.monotonic()
        self._pause_s = min(max(PERIOD_S, (self._written - begun) / SHARE), BEAT_S)


def name_of(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)
