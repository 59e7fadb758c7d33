"""What a sweep says while it runs: a bar of trials, a line for each that ends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ray.tune import Callback

from pipeline.progress import Progress, progress
from pipeline.tuning.space import chosen


class TrialLines(Callback):
    """Progress over trials, each counted by the share of its steps that it has made; notes the best validation error.

    Args:
        total: trials of the whole sweep; Tune makes them as it goes.
        max_steps: of a trial whose point does not choose recipe.max_steps.
    """

    def __init__(self, total: int, max_steps: int) -> None:
        self._total, self._max_steps = total, max_steps
        self._open = ExitStack()
        self._shown: Progress | None = None
        self._made = 0.0
        self._shares: dict[str, float] = {}

    def on_step_begin(self, iteration: int, trials: list, **_: Any) -> None:
        if self._shown is None:  # not sooner: what an earlier, interrupted sweep made is no rate of this one
            self._made = self._share(trials)
            self._shown = self._open.enter_context(progress("sweep", self._total, "trials", self._made))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **_: Any) -> None:
        self._show(trials)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self._shares[trial.trial_id] = 1.0  # Tune calls it terminated only after this
        self._show(trials)
        last = trial.last_result
        print(
            f"{trial}: validation error {100 * last.get('best/err1', float('nan')):.2f} % after {last.get('step', 0):,} steps",
            flush=True,
        )

    def on_experiment_end(self, trials: list, **_: Any) -> None:
        self._show(trials)
        self._open.close()

    def get_state(self) -> dict | None:
        return None  # a display has nothing to restore

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_open": ExitStack(), "_shown": None}

    def _show(self, trials: list) -> None:
        if self._shown is not None:
            made, before = self._share(trials), self._made
            self._made = made
            errors = [error for trial in trials if (error := (trial.last_result or {}).get("best/err1")) is not None]
            if errors:
                self._shown.note(f"best validation error {100 * min(errors):.2f} %")
            self._shown.advance(made - before)

    def _share(self, trials: list) -> float:
        """Trials that ended, and of the others the share of their steps; it never falls."""
        for trial in trials:
            share = 1.0 if trial.is_finished() else self._of_steps(trial)
            self._shares[trial.trial_id] = max(share, self._shares.get(trial.trial_id, 0.0))
        return sum(self._shares.values())

    def _of_steps(self, trial: Any) -> float:
        max_steps = chosen(trial.config).get("recipe.max_steps", self._max_steps)
        return min((trial.last_result or {}).get("step", 0) / max_steps, 1.0)
