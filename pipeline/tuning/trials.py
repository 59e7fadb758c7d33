"""What a sweep has come to, trial by trial: a file of plain values, from which an interrupted sweep goes on.

Ray Tune keeps a state of its own, in pickles. Those are never read: whoever can write the folder could run code with them.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole, write_json
from pipeline.record import fits
from pipeline.run.run import RUN

NAME = "trials.json"
PERIOD_S = 1.0  # between writes while trials run
ENDED = "ended"  # by itself or by the scheduler, which the run's own status tells apart
DONE = ("finished", "stopped", "diverged")  # nothing is left to train


@dataclass
class Trial:
    """One point of the space.

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
    steps: int = 0
    reports: list[tuple[int, float]] = field(default_factory=list)


class Trials:
    """The trials of a sweep, those of its earlier attempts included, kept in `folder`/trials.json.

    Args:
        folder: of the sweep's own run.
        points: all that the sweep trains, see `space.points`.
        runs: folder of all runs.
        require: called before each write; may raise to prevent it.
    """

    def __init__(
        self, folder: Path, points: Sequence[dict[str, Any]], runs: Path, require: Callable[[], object] = lambda: None
    ) -> None:
        self._path, self._runs, self._require, self._written = folder / NAME, runs, require, 0.0
        earlier = self._read()
        self.all = [earlier.get(_name(point), Trial(point)) for point in points]
        self._by_name = {_name(trial.point): trial for trial in self.all}
        self.settle()

    def _read(self) -> dict[str, Trial]:
        entries = read_if_whole(self._path)
        try:
            trials = [
                Trial(**{**entry, "reports": [tuple(r) for r in entry["reports"]]}) for entry in entries["trials"]
            ]
        except (KeyError, TypeError):
            trials = []
        if (entries and not trials) or not all(fits(trial, Trial) and _is_key(trial.key) for trial in trials):
            print(
                f"{self._path} is not understood; the sweep goes on from the runs that have finished", file=sys.stderr
            )
            return {}
        return {_name(trial.point): trial for trial in trials}

    @property
    def left(self) -> list[dict[str, Any]]:
        """Points that are not trained to their end, in order."""
        return [trial.point for trial in self.all if trial.status not in DONE]

    def of(self, point: Mapping[str, Any]) -> Trial:
        return self._by_name[_name(point)]

    def report(self, point: Mapping[str, Any], result: Mapping[str, Any]) -> None:
        """Takes up a trial's report to Ray Tune."""
        trial = self.of(point)
        trial.key, trial.error = result.get("key") or "", result.get("error", "")
        trial.val_err1, trial.steps = result["best/err1"], result["step"]
        if not any(epoch >= result["epoch"] for epoch, _ in trial.reports):
            trial.reports.append((result["epoch"], result["val/err1"]))
        if time.monotonic() - self._written > PERIOD_S:
            self.write()

    def end(self, point: Mapping[str, Any], status: str) -> None:
        """`status` is ENDED or failed."""
        self.of(point).status = status
        self.write()

    def settle(self) -> None:
        """Gives trials that have ended their status, and takes it from finished ones whose run is no longer there."""
        for trial in self.all:
            finished = bool(trial.key) and read_if_whole(self._runs / trial.key / RUN).get("status") == "finished"
            if trial.status == ENDED:
                trial.status = "diverged" if trial.error else "finished" if finished else "stopped"
            elif trial.status == "finished" and not finished:
                trial.status = "unfinished"

    def write(self) -> None:
        write_json(self._path, {"trials": [asdict(trial) for trial in self.all]}, require=self._require)
        self._written = time.monotonic()


def _name(point: Mapping[str, Any]) -> str:
    return json.dumps(point, sort_keys=True)


def _is_key(key: str) -> bool:
    return bool(re.fullmatch("[0-9a-f]{12}|", key))
