"""How a sweep ends before its last trial: its budget is spent, or somebody asked for it.

Both are a small file in the sweep's folder (`Trials.stop`), which the sweep and its trials look for: trials then save a
checkpoint and stop, wherever they run.
"""

from __future__ import annotations

import socket
import time
from dataclasses import asdict
from pathlib import Path

from pipeline.atomic import read_if_whole, write_json
from pipeline.config import BudgetConfig
from pipeline.storage.notes import has_note, leave_note
from pipeline.tracking.lineage import user
from pipeline.tuning.trials import Trials

LOOK_S, NOTE_S = 1.0, 5.0  # between looks at a folder that may be on another machine, and at a store


class Asked:
    """Whether `file`, or a note of its name on cluster.storage, asks a sweep to end; called at each step of a training.

    A call looks at most every LOOK_S or NOTE_S, unless it is to look `now`.
    """

    def __init__(self, file: Path, storage: str = "") -> None:
        self._file, self._storage, self._looked, self._answer = file, storage, -NOTE_S, False

    def __call__(self, now: bool = False) -> bool:
        due = now or time.monotonic() - self._looked >= (NOTE_S if self._storage else LOOK_S)
        if not self._answer and due:
            self._answer = self._file.exists() or has_note(self._storage, self._file.name)
            self._looked = time.monotonic()
        return self._answer


class Ending:
    """Looks for the end of a sweep, see `Asked`; it is called again and again while trials run.

    Attributes:
        why: a sentence once the sweep is ending; "" before.
        by_budget: whether its budget is the reason.
    """

    def __init__(self, budget: BudgetConfig, trials: Trials, storage: str = "") -> None:
        self._budget, self._trials, self._storage = budget, trials, storage
        self._asked: Asked | None = None  # of the attempt, which begins later
        self.why = spent(budget, trials)
        self.by_budget = bool(self.why)

    def __call__(self, now: bool = False) -> bool:
        self._asked = self._asked or Asked(self._trials.stop, self._storage)
        if not self.why and self._asked(now):
            self.why = read_if_whole(self._trials.stop).get("why") or f"{self._trials.stop} asked for it"
        if not self.why and (why := spent(self._budget, self._trials)):
            write_json(self._trials.stop, {"why": why})
            leave_note(self._storage, self._trials.stop.name)
            self.why, self.by_budget = why, True
        return bool(self.why)


def spent(budget: BudgetConfig, trials: Trials) -> str:
    """Which limit is reached, as a sentence; "" if none is."""
    for key, limit, used in (
        ("trials", budget.trials, trials.done),
        ("steps", budget.steps, trials.steps),
        ("hours", budget.hours, trials.hours),
    ):
        if limit and used >= limit:
            return f"sweep.budget.{key}={limit:g} is spent"
    return ""


def limits(budget: BudgetConfig) -> dict[str, float]:
    """The limits that are set."""
    return {key: limit for key, limit in asdict(budget).items() if limit}


def ask(file: Path, storage: str = "") -> None:
    """Asks the sweep that looks for `file` to end, or for a note of its name on cluster.storage."""
    who = f"{user()} on {socket.gethostname()}"
    write_json(file, {"why": f"{who} asked for it (pipeline sweep stop)"})
    leave_note(storage, file.name)
