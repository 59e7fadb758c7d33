"""A sweep: Ray Tune's Tuner is built, or restored where an earlier one was interrupted; the sweep is a run in MLflow."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole, write_json
from pipeline.config import Config, leaves
from pipeline.errors import PipelineError, hint
from pipeline.run.checkpoint import folder_lock
from pipeline.run.stop import Interrupted
from pipeline.tracking import location as tracking
from pipeline.tracking.journal import Journal
from pipeline.tracking.lineage import lineage
from pipeline.tracking.shipper import Shipper, ship_all, wait_for_run
from pipeline.tuning import leaderboard
from pipeline.tuning.cluster import check_precision, check_tracking, join, side_by_side
from pipeline.tuning.search import choices, is_shortened, main_sweep, outcome, search_sweep, sentence
from pipeline.tuning.space import chosen, search_space, trial_name
from pipeline.tuning.sweep import Sweep, checked
from pipeline.tuning.trial import run_trial, trial_resources


def tune_sweep(config: Config, store: Path, root: Path) -> dict[str, Any]:
    """The leaderboard of the sweep that `config` names; see `pipeline.tuning.leaderboard.board`.

    Its key `search` holds the outcome of sweep.search, which runs first (`pipeline.tuning.search.outcome`), or None.
    The name of a sweep, and of a search, is a hash of all that decides its result: the same command resumes an interrupted
    one, and trials that already ran are not run again.

    Raises:
        PipelineError: a space that cannot be searched, a trial that needs more than the cluster has, or failed trials.
        stop.Interrupted: after a signal; call again to resume.
    """
    tags, search = lineage(root), config.sweep.search
    if search is None:
        return {**_run(checked(config, store), tags), "search": None}
    for values in choices(search):
        checked(main_sweep(config, values), store)  # before the search, which may take hours
    first = checked(search_sweep(config, search), store, "search")
    print(f"a search of {first.size} trials chooses {', '.join(search.take)} for the sweep")
    kind = {tracking.KIND_TAG: tracking.SEARCH} if is_shortened(config, search) else {}
    result = outcome(search, _run(first, {**tags, **kind})["trials"])
    print(sentence(result))
    return {**_run(checked(main_sweep(config, result["chosen"]), store), tags), "search": result}


def _run(sweep: Sweep, tags: dict[str, str]) -> dict[str, Any]:
    """The leaderboard of the finished sweep.

    Args:
        tags: for the runs of the trials in MLflow.
    """
    _print_changes(sweep)
    with folder_lock(sweep.runs / sweep.name):
        return _track(sweep, tags)


def _track(sweep: Sweep, tags: dict[str, str]) -> dict[str, Any]:
    """Runs the sweep as a run in MLflow, the parent of the trials' runs."""
    config, run = sweep.config, sweep.runs / sweep.name
    own = {tracking.KEY_TAG: sweep.name, tracking.KIND_TAG: "sweep", tracking.DATA_TAG: sweep.content_hash}
    settings = {f"sweep.{key}": value for key, value in asdict(config.sweep).items()}
    journal = Journal(run)
    journal.begin(f"{config.data.name}-{sweep.name}", config.data.name, settings, {**tags, **own})
    shipper = Shipper(run, sweep.location)  # its thread makes MLflow's client ready while Ray starts
    status = "KILLED"
    try:
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        # A stopped trial ships its journal before its thread ends; an actor whose thread takes longer is not reused.
        join(config, log_to_driver=False, runtime_env={"env_vars": {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "60"}})
        check_tracking(sweep.location)
        # Trials look up their parent in MLflow; if MLflow does not answer in time, they start without one.
        wait_for_run(run, patience_s=20, location=sweep.location)
        board = _run_trials(sweep, {**tags, tracking.PARENT_TAG: sweep.name})
        leaderboard.end_cut_off_runs(board, sweep.runs, sweep.location)
        write_json(sweep.folder / "leaderboard.json", board)
        journal.artifact(sweep.folder / "leaderboard.json", "sweep")
        _check_complete(sweep, board["trials"])
        journal.metrics(len(board["trials"]), {"best/err1": board["trials"][0]["val_err1"]})
        status = "FINISHED"
        return board
    finally:
        journal.end(status)
        shipper.close()


def _check_complete(sweep: Sweep, trials: list[dict[str, Any]]) -> None:
    # Tune makes trials one after another, so an interrupted sweep may lack some.
    left = sweep.size - sum(trial["status"] != "unfinished" for trial in trials)
    if left > 0:
        raise Interrupted(f"stopped with {left} of {sweep.size} trials unfinished")
    if failed := [trial["name"] for trial in trials if trial["status"] == "failed"]:
        raise PipelineError(
            f"{len(failed)} of {len(trials)} trials failed ({'; '.join(failed)}); their errors are in "
            f"{sweep.folder}/*/error.txt; run the same command to repeat them; the others are kept"
        )


def _run_trials(sweep: Sweep, tags: dict[str, str]) -> dict[str, Any]:
    """Runs the trials that have not run yet. Returns the leaderboard of all."""
    import ray
    from ray import tune

    _tuner(sweep, tags).fit()
    trials = tune.ExperimentAnalysis(str(sweep.folder)).trials or []
    if any(trial.status not in ("TERMINATED", "ERROR") for trial in trials):
        ray.shutdown()  # an interrupted trial trains, and holds its run, until its process ends
    if any(not trial.config for trial in trials):
        raise PipelineError(
            f"the state of {sweep.name} cannot be read; delete {sweep.folder} and run the same command: finished runs "
            "are kept"
        )
    try:
        ship_all(sweep.runs, sweep.location)  # runs of an earlier sweep may be missing from this MLflow
    except Exception as error:  # MLflow raises many kinds; the journals keep the runs
        print(f"MLflow does not have all trials yet ({error}); {hint('sync')} ships them", file=sys.stderr)
    return leaderboard.board(sweep.name, sweep.content_hash, trials, sweep.config, sweep.location)


def _tuner(sweep: Sweep, tags: dict[str, str]) -> Any:
    """Tune's Tuner, restored from the sweep's folder or new."""
    import ray
    from ray import tune

    config, cluster = sweep.config, ray.cluster_resources()
    check_precision(config, cluster)
    resources, at_once = trial_resources(config, cluster), config.sweep.max_concurrent
    if config.trainer.world_size > 1:
        # Ray Train gives up on ranks that wait long for others to end, so no more trials start than have room.
        room = side_by_side(config, cluster)
        at_once = min(at_once or room, room)
    work = tune.with_parameters(run_trial, config=config.to_dict(), store=str(sweep.store.resolve()), tags=tags)
    trainable = tune.with_resources(work, tune.PlacementGroupFactory([resources]))
    # Tuner.can_restore is true before the first trial, when there is no state to restore yet.
    if any(sweep.folder.glob("experiment_state-*.json")):
        return tune.Tuner.restore(str(sweep.folder), trainable, resume_unfinished=True, resume_errored=True)
    return _new_tuner(sweep, trainable, at_once)


def _new_tuner(sweep: Sweep, trainable: Any, at_once: int) -> Any:
    """A Tuner of `at_once` trials side by side, 0 for as many as have room."""
    from ray import tune
    from ray.tune.search import BasicVariantGenerator

    from pipeline.tuning.console import TrialLines

    config = sweep.config

    def name(trial: Any) -> str:
        return trial_name(chosen(trial.config), config)

    return tune.Tuner(
        trainable,
        param_space=search_space(config.sweep.space),
        tune_config=tune.TuneConfig(
            metric="val/err1",
            mode="min",
            num_samples=config.sweep.num_samples,
            scheduler=_scheduler(sweep),
            # The seed alone decides the draws from ranges.
            search_alg=BasicVariantGenerator(max_concurrent=at_once, random_state=config.seed),
            # A stopped trial's process must end for its ranks to end.
            reuse_actors=config.trainer.world_size == 1,
            trial_name_creator=name,
            trial_dirname_creator=lambda trial: "-".join([*re.findall(r"[\w.]+", name(trial)), trial.trial_id]),
        ),
        run_config=tune.RunConfig(
            name=sweep.name,
            storage_path=str(sweep.folder.parent),
            failure_config=tune.FailureConfig(max_failures=config.sweep.max_failures),
            callbacks=[TrialLines(sweep.role, sweep.size, config.recipe.max_steps)],
            verbose=0,
        ),
    )


def _scheduler(sweep: Sweep) -> Any:
    """ASHA over epochs, or no scheduler."""
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    config = sweep.config
    if not config.sweep.reduction_factor:
        return FIFOScheduler()
    return ASHAScheduler(
        time_attr="epoch",
        # One more than there are: a stop at the last validation would make a finished run a stopped one.
        max_t=sweep.epochs + 1,
        grace_period=min(config.sweep.grace_epochs, sweep.epochs),
        reduction_factor=config.sweep.reduction_factor,
    )


def _print_changes(sweep: Sweep) -> None:
    """Prints that the sweep resumes, or how its configuration differs from the data set's last one of its role."""
    latest = sweep.folder.parent / f"latest-{sweep.role}-{sweep.config.data.name}.json"
    if sweep.folder.exists():
        print(f"resuming {sweep.name}")
    elif earlier := read_if_whole(latest):
        old, new = dict(leaves(earlier)), dict(leaves(sweep.facts))
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        changes = "; ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys)
        print(f"a new {sweep.role}; changed since the last: {changes}")
    write_json(latest, sweep.facts)
