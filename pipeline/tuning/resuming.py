"""Ray Tune's side of a sweep that can go on and end: reports are kept, and the scheduler knows those of earlier attempts."""

from __future__ import annotations

import math
import time
from bisect import bisect_right
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

from ray.tune import Callback, Stopper
from ray.tune.schedulers import ASHAScheduler

from pipeline.tuning.cluster import load
from pipeline.tuning.console import failure
from pipeline.tuning.ending import Ending
from pipeline.tuning.space import chosen
from pipeline.tuning.state import DONE, Trial
from pipeline.tuning.trials import Trials

PATIENCE_S = 120.0  # that trials have for a checkpoint when the sweep ends
GOLDEN = (math.sqrt(5) - 1) / 2


class Recording(Callback, Stopper):
    """Keeps what trials report and how they end, and ends them with the sweep.

    Args:
        patient: whether trials look for the sweep's end themselves, and are waited for.
    """

    def __init__(self, trials: Trials, ending: Ending, *, patient: bool) -> None:
        self._trials, self._ending, self._patient = trials, ending, patient
        self._tunes: list[Any] = []  # Tune's own trials
        self._deadline = math.inf

    def __getstate__(self) -> dict[str, Any]:
        return {}  # see Trials

    def on_step_begin(self, iteration: int, trials: list, **_: Any) -> None:
        self._tunes = trials
        self._trials.beat(load)

    def on_trial_start(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self._trials.begin(chosen(trial.config), str(trial))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **_: Any) -> None:
        self._trials.report(chosen(trial.config), result)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        # The trial may have seen the request to stop before the sweep has.
        end = self._trials.leave if self._ending(now=True) else self._trials.end
        end(chosen(trial.config))

    def on_trial_recover(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        last = failure(trial)
        trial.max_failures += last.lost  # Tune counts a lost machine like a trial's own failure
        self._trials.fail(chosen(trial.config), last.why, last.host, for_good=False)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        last = failure(trial)
        self._trials.fail(chosen(trial.config), last.why, last.host, for_good=True)

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        return False  # no trial ends by itself

    def stop_all(self) -> bool:
        if not self._ending():
            return False
        self._deadline = min(self._deadline, time.monotonic() + PATIENCE_S * self._patient)
        training = any(trial.status == "RUNNING" for trial in self._tunes)
        return not training or time.monotonic() >= self._deadline


class ResumedASHA(ASHAScheduler):
    """ASHA whose rungs hold the reports of earlier attempts: those of trials that are done, and those of trials that go on.

    With several brackets it is asynchronous Hyperband. Ray draws a trial's bracket from numpy's generator; here it is a
    function of the trial's number, in the proportions of Hyperband (Li et al. 2018, arXiv 1603.06560).
    """

    def __init__(self, trials: Trials, **settings: Any) -> None:
        super().__init__(**settings)
        self._earlier, self._done_are_in = trials, False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if not self._done_are_in:  # only now, since Tune has set the metric by its first trial
            self._done_are_in = True
            for number, done in enumerate(self._earlier.all):
                if done.status in DONE:
                    stand_in = SimpleNamespace(trial_id=f"earlier-{number}")
                    self._enter(stand_in, done)
        self._enter(trial, self._earlier.of(chosen(trial.config)))

    def _enter(self, trial: Any, earlier: Trial) -> None:
        """Adds a trial with its reports, without the decisions, which were made when they were new."""
        super().on_trial_add(None, trial)  # type: ignore[arg-type]
        at = bracket_of(self._earlier.number(earlier.point), len(self._brackets), self._reduction_factor)
        self._trial_info[trial.trial_id] = self._brackets[at]
        for epoch, error in earlier.reports:
            super().on_trial_result(None, trial, {self._time_attr: epoch, self._metric: error})  # type: ignore[arg-type]


def brackets(horizon: int, grace: int, factor: int) -> int:
    """How many brackets Hyperband has: one for each rung at which a trial can first be stopped."""
    count = 1
    while grace * factor**count <= horizon:
        count += 1
    return count


def bracket_of(number: int, count: int, factor: float) -> int:
    """The bracket of trial `number`; bracket 0 stops earliest and has the most trials.

    Multiples of the golden ratio spread evenly, so each prefix of the trials has nearly the proportions of the whole.
    """
    rungs = [count - at for at in range(count)]
    sizes = list(accumulate(math.ceil(count / rung * factor ** (rung - 1)) for rung in rungs))
    return bisect_right(sizes, number * GOLDEN % 1 * sizes[-1])
