"""A sweep: a Tuner of Ray Tune trains the points that are left of it; the sweep is a run in MLflow."""

from __future__ import annotations

import os
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole, write_json
from pipeline.config import Config, leaves
from pipeline.errors import PipelineError, hint, printable
from pipeline.run.checkpoint import folder_lock
from pipeline.run.stop import Interrupted
from pipeline.tracking import location as tracking
from pipeline.tracking.journal import Journal
from pipeline.tracking.lineage import machine, source
from pipeline.tracking.location import first_line
from pipeline.tracking.shipper import Shipper, wait_for_run
from pipeline.tracking.sync import sync
from pipeline.tuning import leaderboard
from pipeline.tuning.cluster import check_precision, check_tracking, join, live_nodes, side_by_side
from pipeline.tuning.search import choices, is_shortened, main_sweep, outcome, search_sweep, sentence
from pipeline.tuning.space import chosen, for_tune, trial_name
from pipeline.tuning.sweep import Sweep, checked
from pipeline.tuning.trial import run_trial, trial_resources
from pipeline.tuning.trials import NAME as TRIALS
from pipeline.tuning.trials import Trials


def tune_sweep(config: Config, store: Path, root: Path) -> dict[str, Any]:
    """The leaderboard of the sweep that `config` names; see `pipeline.tuning.leaderboard.board`.

    Its key `search` holds the outcome of sweep.search, which runs first (`pipeline.tuning.search.outcome`), or None.
    The name of a sweep, and of a search, is a hash of all that decides its result: the same command resumes an interrupted
    one, and trials that already ran are not run again.

    Raises:
        PipelineError: a space that cannot be searched, a trial that needs more than the cluster has, or failed trials.
        stop.Interrupted: after a signal; call again to resume.
    """
    tags, search = source(root), config.sweep.search
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
    with folder_lock(sweep.run):
        return _track(sweep, tags)


def _track(sweep: Sweep, tags: dict[str, str]) -> dict[str, Any]:
    """Runs the sweep as a run in MLflow, the parent of the trials' runs. A sweep that the cluster cannot hold is no run."""
    trials = Trials(sweep.run, sweep.points, sweep.runs)
    shipper = Shipper(sweep.run, sweep.location)  # its thread makes MLflow's client ready while Ray starts
    try:
        room = _join(sweep) if trials.left else None
        return _journaled(sweep, trials, room, tags)
    finally:
        shipper.close()


def _journaled(sweep: Sweep, trials: Trials, room: Room | None, tags: dict[str, str]) -> dict[str, Any]:
    config, run = sweep.config, sweep.run
    own = {tracking.KEY_TAG: sweep.name, tracking.KIND_TAG: "sweep", tracking.DATA_TAG: sweep.content_hash}
    settings = {f"sweep.{key}": value for key, value in asdict(config.sweep).items()}
    journal = Journal(run)
    journal.begin(f"{config.data.name}-{sweep.name}", config.data.name, settings, {**tags, **machine(), **own})
    status = "KILLED"
    try:
        if room is not None:
            _train(sweep, trials, room, {**tags, tracking.PARENT_TAG: sweep.name})
        _ship_trials(sweep)
        board = leaderboard.board(sweep.name, sweep.content_hash, trials.all, config, sweep.location)
        leaderboard.end_cut_off_runs(board, sweep.runs, sweep.location)
        write_json(run / "leaderboard.json", board)
        journal.artifact(run / "leaderboard.json", "sweep")
        _check_complete(sweep, board["trials"])
        journal.metrics(len(board["trials"]), {"best/err1": board["trials"][0]["val_err1"]})
        status = "FINISHED"
        return board
    finally:
        journal.end(status)


def _check_complete(sweep: Sweep, trials: list[dict[str, Any]]) -> None:
    if left := sum(trial["status"] == "unfinished" for trial in trials):
        raise Interrupted(f"stopped with {left} of {sweep.size} trials unfinished")
    if failed := [trial["name"] for trial in trials if trial["status"] == "failed"]:
        raise PipelineError(
            f"{len(failed)} of {len(trials)} trials failed ({'; '.join(failed)}){_reasons(sweep.folder)}; their errors are "
            f"in {sweep.folder}/*/error.txt; run the same command to repeat them; the others are kept"
        )


def _reasons(folder: Path) -> str:
    """The last line of each error, once, where Tune could write them."""
    errors = [path.read_text(errors="replace").strip() for path in sorted(folder.glob("*/error.txt"))]
    lines = dict.fromkeys(printable(error.splitlines()[-1]) for error in errors if error)
    return f": {'; '.join(lines)}" if lines else ""


@dataclass(frozen=True)
class Room:
    """What the cluster gives a sweep."""

    resources: dict[str, float]  # set aside for a trial
    at_once: int  # trials; 0 for as many as there is room for


def _join(sweep: Sweep) -> Room:
    """Joins the Ray cluster.

    Raises:
        PipelineError: it does not answer, or cannot hold a trial.
    """
    config = sweep.config
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    # A stopped trial ships its journal before its thread ends; an actor whose thread takes longer is not reused.
    join(config, log_to_driver=False, runtime_env={"env_vars": {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "60"}})
    check_tracking(sweep.location)
    nodes = live_nodes()
    check_precision(config, nodes)
    resources, at_once = trial_resources(config, nodes), config.sweep.max_concurrent
    if config.trainer.world_size > 1:
        # Ray Train gives up on ranks that wait long for others to end, so no more trials start than have room.
        room = side_by_side(config, nodes)
        at_once = min(at_once or room, room)
    return Room(resources, at_once)


def _train(sweep: Sweep, trials: Trials, room: Room, tags: dict[str, str]) -> None:
    """Runs the trials that are left on Ray.

    Args:
        tags: for their runs in MLflow.
    """
    import ray

    # Trials look up their parent in MLflow; if MLflow does not answer in time, they start without one.
    wait_for_run(sweep.run, patience_s=20, location=sweep.location)
    if sweep.folder.is_symlink():
        sweep.folder.unlink()
    elif sweep.folder.exists():
        shutil.rmtree(sweep.folder)  # of an earlier attempt, which Tune is not to find
    try:
        _tuner(sweep, trials, room, tags).fit()
    finally:
        trials.settle()
        trials.write()
    if any(trial.status == "unfinished" for trial in trials.all):
        ray.shutdown()  # an interrupted trial trains, and holds its run, until its process ends


def _ship_trials(sweep: Sweep) -> None:
    """Ships what MLflow lacks: trials that Ray has just ended, and runs of an earlier sweep."""
    try:
        sync(sweep.runs, sweep.location)
    except Exception as error:  # MLflow raises many kinds; the journals keep the runs
        print(f"MLflow does not have all trials yet ({first_line(error)}); {hint('sync')} ships them", file=sys.stderr)


def _tuner(sweep: Sweep, trials: Trials, room: Room, tags: dict[str, str]) -> Any:
    """Tune's Tuner of the trials that are left."""
    from ray import tune
    from ray.tune.search import BasicVariantGenerator

    from pipeline.tuning.console import TrialLines
    from pipeline.tuning.resuming import Recording

    config = sweep.config
    work = tune.with_parameters(run_trial, config=config.to_dict(), store=str(sweep.store.resolve()), tags=tags)

    def name(trial: Any) -> str:
        return trial_name(chosen(trial.config), config)

    return tune.Tuner(
        tune.with_resources(work, tune.PlacementGroupFactory([room.resources])),
        param_space=for_tune(trials.left),
        tune_config=tune.TuneConfig(
            metric="val/err1",
            mode="min",
            scheduler=_scheduler(sweep, trials),
            search_alg=BasicVariantGenerator(max_concurrent=room.at_once),
            # A stopped trial's process must end for its ranks to end.
            reuse_actors=config.trainer.world_size == 1,
            trial_name_creator=name,
            trial_dirname_creator=lambda trial: "-".join([*re.findall(r"[\w.]+", name(trial)), trial.trial_id]),
        ),
        run_config=tune.RunConfig(
            name=sweep.name,
            storage_path=str(sweep.folder.parent),
            failure_config=tune.FailureConfig(max_failures=config.sweep.max_failures),
            callbacks=[
                TrialLines(
                    sweep.role, sweep.size, sweep.size - len(trials.left), config.recipe.max_steps, room.resources
                ),
                Recording(trials),
            ],
            verbose=0,
        ),
    )


def _scheduler(sweep: Sweep, trials: Trials) -> Any:
    """ASHA over epochs, or no scheduler."""
    from ray.tune.schedulers import FIFOScheduler

    from pipeline.tuning.resuming import ResumedASHA

    config = sweep.config
    if not config.sweep.reduction_factor:
        return FIFOScheduler()
    return ResumedASHA(
        trials,
        time_attr="epoch",
        # One more than there are: a stop at the last validation would make a finished run a stopped one.
        max_t=sweep.epochs + 1,
        grace_period=min(config.sweep.grace_epochs, sweep.epochs),
        reduction_factor=config.sweep.reduction_factor,
    )


def _print_changes(sweep: Sweep) -> None:
    """Prints that the sweep resumes, or how its configuration differs from the data set's last one of its role."""
    latest = sweep.folder.parent / f"latest-{sweep.role}-{sweep.config.data.name}.json"
    if (sweep.run / TRIALS).exists():
        print(f"resuming {sweep.name}")
    elif earlier := read_if_whole(latest):
        old, new = dict(leaves(earlier)), dict(leaves(sweep.facts))
        keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
        changes = "; ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys)
        print(f"a new {sweep.role}; changed since the last: {changes}")
    write_json(latest, sweep.facts)
