"""Ray Tune's experiment: a Tuner for the trials that are left: who chooses them, who stops them, what is kept of them."""

from __future__ import annotations

import os
import re
from typing import Any

from ray import tune
from ray.tune.schedulers import FIFOScheduler
from ray.tune.search import BasicVariantGenerator, ConcurrencyLimiter, Searcher

from pipeline.tuning import population
from pipeline.tuning.console import TrialLines
from pipeline.tuning.ending import Ending
from pipeline.tuning.resuming import Recording, ResumedASHA, brackets
from pipeline.tuning.room import Room
from pipeline.tuning.space import POINT, chosen, for_tune, trial_name
from pipeline.tuning.sweep import Sweep
from pipeline.tuning.trial import run_trial
from pipeline.tuning.trials import Trials

# What Tune would keep beside trials.json, the journals and MLflow, and nobody would read: a TensorBoard log (which imports
# torch), CSV and JSON for each trial, and its own state every few seconds.
_NOT_KEPT = {"TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1", "TUNE_GLOBAL_CHECKPOINT_S": "86400"}


def tuner(sweep: Sweep, trials: Trials, ending: Ending, room: Room, tags: dict[str, str]) -> tune.Tuner:
    """A Tuner whose `fit` trains the trials that are left, as many as the budget allows.

    Args:
        tags: for their runs in MLflow.
    """
    os.environ.update(_NOT_KEPT)
    config = sweep.config
    given = {"config": config.to_dict(), "store": str(sweep.store.resolve()), "tags": tags, "stop": str(trials.stop)}
    given["content_hash"] = sweep.content_hash
    work = tune.with_parameters(run_trial, **given)
    several = config.trainer.world_size > 1
    # Trials of several ranks are killed, like ranks after a signal, and resume from their last checkpoint.
    recording = Recording(trials, ending, patient=not several)
    most = sweep.allowed

    def name(trial: Any) -> str:
        return trial_name(chosen(trial.config), config)

    return tune.Tuner(
        tune.with_resources(work, tune.PlacementGroupFactory([room.resources])),
        tune_config=tune.TuneConfig(
            metric="val/err1",
            mode="min",
            scheduler=_scheduler(sweep, trials),
            # A stopped trial's process must end for its ranks to end.
            reuse_actors=not several,
            trial_name_creator=name,
            trial_dirname_creator=lambda trial: "-".join([*re.findall(r"[\w.]+", name(trial)), trial.trial_id]),
            **_search(sweep, trials, room, most - trials.done),
        ),
        run_config=tune.RunConfig(
            name=sweep.name,
            storage_path=str(sweep.folder.parent),
            failure_config=tune.FailureConfig(max_failures=config.cluster.max_failures),
            stop=recording,
            callbacks=[
                TrialLines(sweep.role, most, trials.done, config.recipe.max_steps, room.resources, config.model.score),
                recording,
            ],
            verbose=0,
        ),
        param_space=None if sweep.suggested else for_tune(trials.left[: most - trials.done]),
    )


def _search(sweep: Sweep, trials: Trials, room: Room, allowed: int) -> dict[str, Any]:
    """Settings of TuneConfig for the searcher. allowed: trials that may be trained."""
    if not sweep.suggested:
        return {"search_alg": BasicVariantGenerator(max_concurrent=room.at_once)}
    # Tune asks for trials ahead of time, but a suggestion is the better the more trials have ended.
    limited = ConcurrencyLimiter(Suggestions(sweep, trials), max_concurrent=room.slots)
    return {"search_alg": limited, "num_samples": allowed}


class Suggestions(Searcher):
    """Gives Tune the trials that an earlier attempt left, then those that TPE or a population suggests."""

    def __init__(self, sweep: Sweep, trials: Trials) -> None:
        super().__init__(metric="val/err1", mode="min")
        self._sweep, self._trials, self._left = sweep, trials, trials.left

    def suggest(self, trial_id: str) -> Any:
        if self._left:
            return {POINT: self._left.pop(0)}
        point = self._member() if self._sweep.is_population else self._suggested()
        if isinstance(point, dict):
            config = self._sweep.config
            self._trials.add(point, population.first_step(config, point) if self._sweep.is_population else 0)
            return {POINT: point}
        return point

    def _suggested(self) -> Any:
        from pipeline.tuning.suggest import suggested

        config = self._sweep.config
        return suggested(config.sweep.space, config.seed, self._trials.all) or Searcher.FINISHED

    def _member(self) -> Any:
        """None for later: members that are done wait for the others of their generation."""
        trials, config = self._trials.all, self._sweep.config
        failed = any(trial.status == "failed" for trial in trials)
        over = len(trials) == self._sweep.size or failed or population.stuck(config, trials)
        return Searcher.FINISHED if over else population.proposed(config, trials)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        pass  # the record of the trials says how each has ended

    def save(self, checkpoint_path: str) -> None:
        pass  # Tune's own state is never read


def _scheduler(sweep: Sweep, trials: Trials) -> Any:
    """ASHA or Hyperband over epochs, or no scheduler."""
    config, epochs = sweep.config, sweep.epochs
    factor = config.sweep.reduction_factor
    if not factor:
        return FIFOScheduler()
    grace = min(config.sweep.grace_epochs, epochs)
    return ResumedASHA(
        trials,
        time_attr="epoch",
        # One more than there are: a stop at the last validation would make a finished run a stopped one.
        max_t=epochs + 1,
        grace_period=grace,
        reduction_factor=factor,
        brackets=brackets(epochs, grace, factor) if config.sweep.scheduler == "hyperband" else 1,
    )
