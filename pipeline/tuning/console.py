"""What a sweep says while it runs: a bar of trials, a line for each that ends."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from ray.tune import Callback

from pipeline.progress import progress


class TrialLines(Callback):
    """Progress over `total` trials; notes the best validation error so far."""

    def __init__(self, total: int) -> None:
        self._total, self._best = total, float("inf")
        self._open = ExitStack()

    def setup(self, *_: Any, **__: Any) -> None:
        self._shown = self._open.enter_context(progress("sweep", self._total, "trials"))

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict, **_: Any) -> None:
        self._best = min(self._best, result.get("best/err1", self._best))
        self._shown.note(f"best validation error {100 * self._best:.2f} %")
        self._shown.advance(0)

    def on_trial_complete(self, iteration: int, trials: list, trial: Any, **_: Any) -> None:
        self._shown.advance()
        last = trial.last_result
        print(
            f"{trial}: validation error {100 * last.get('best/err1', float('nan')):.2f} % after {last.get('step', 0):,} steps",
            flush=True,
        )

    def on_experiment_end(self, trials: list, **_: Any) -> None:
        self._open.close()

    def get_state(self) -> dict | None:
        return None  # a display has nothing to restore

    def __getstate__(self) -> dict:
        return {"_total": self._total, "_best": self._best, "_open": ExitStack()}
