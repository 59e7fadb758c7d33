"""Ray Tune's side of a sweep that can go on: reports are kept, and ASHA knows those of earlier attempts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ray.tune import Callback
from ray.tune.schedulers import ASHAScheduler

from pipeline.tuning.space import chosen
from pipeline.tuning.trials import ENDED, Trial, Trials


class Recording(Callback):
    """Keeps what trials report and how they end."""

    def __init__(self, trials: Trials) -> None:
        self._trials = trials

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **_: Any) -> None:
        self._trials.report(chosen(trial.config), result)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self._trials.end(chosen(trial.config), ENDED)

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self._trials.end(chosen(trial.config), "failed")

    def get_state(self) -> dict | None:
        return None  # Tune's own state is never read


class ResumedASHA(ASHAScheduler):
    """ASHA whose rungs hold the reports of earlier attempts: those of trials that are done, and those of trials that go on."""

    def __init__(self, trials: Trials, **settings: Any) -> None:
        super().__init__(**settings)
        self._earlier, self._done_are_in = trials, False

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        if not self._done_are_in:  # only now, since Tune has set the metric by its first trial
            self._done_are_in = True
            left = list(map(self._earlier.of, self._earlier.left))
            for number, done in enumerate(entry for entry in self._earlier.all if entry not in left):
                stand_in = SimpleNamespace(trial_id=f"earlier-{number}")
                super().on_trial_add(tune_controller, stand_in)  # type: ignore[arg-type]
                self._replay(stand_in, done)
        super().on_trial_add(tune_controller, trial)
        self._replay(trial, self._earlier.of(chosen(trial.config)))

    def _replay(self, trial: Any, earlier: Trial) -> None:
        """Enters reports without the decisions, which were made when they were new."""
        for epoch, error in earlier.reports:
            super().on_trial_result(None, trial, {self._time_attr: epoch, self._metric: error})  # type: ignore[arg-type]
