"""How a sweep ends before its last trial: its budget is spent, or somebody asked for it.

Both are a small file in the sweep's folder, which the sweep and its trials look for: trials then save a checkpoint and stop,
wherever they run.
"""

from __future__ import annotations

import getpass
import socket
import time
from dataclasses import asdict
from pathlib import Path

from pipeline.atomic import read_if_whole, write_json
from pipeline.config import BudgetConfig
from pipeline.tuning.trials import Trials

STOP = "stop.json"
LOOK_S = 1.0  # between looks at a folder that may be on another machine


class Asked:
    """Whether the sweep of `folder` is ending; it is called at each step of a training."""

    def __init__(self, folder: Path) -> None:
        self._file, self._looked, self._answer = folder / STOP, -LOOK_S, False

    def __call__(self) -> bool:
        if not self._answer and time.monotonic() - self._looked >= LOOK_S:
            self._looked, self._answer = time.monotonic(), self._file.exists()
        return self._answer


class Ending:
    """Looks for the end of a sweep while its trials run.

    Attributes:
        why: a sentence once the sweep is ending; "" before.
        by_budget: whether its budget is the reason.
    """

    def __init__(self, folder: Path, budget: BudgetConfig, trials: Trials) -> None:
        self._file, self._budget, self._trials = folder / STOP, budget, trials
        self._file.unlink(missing_ok=True)  # of an earlier attempt
        self.why, self._asked = spent(budget, trials), Asked(folder)
        self.by_budget = bool(self.why)

    def __call__(self) -> bool:
        if not self.why and self._asked():
            self.why = read_if_whole(self._file).get("why") or f"{self._file} asked for it"
        if not self.why and (why := spent(self._budget, self._trials)):
            write_json(self._file, {"why": why})
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


def ask(folder: Path) -> None:
    """Asks the sweep of `folder` to end."""
    write_json(
        folder / STOP, {"why": f"{getpass.getuser()} on {socket.gethostname()} asked for it (pipeline sweep stop)"}
    )
