"""A sweep: a Tuner of Ray Tune trains the points that are left of it; the sweep is a run in MLflow."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole, remove, write_json
from pipeline.config import Config, leaves
from pipeline.errors import PipelineError, first_line, hint
from pipeline.run import Interrupted
from pipeline.run.claim import Claim, TakenOver
from pipeline.run.shared import bring_all, held
from pipeline.storage.stores import put_store
from pipeline.tracking import location as tracking
from pipeline.tracking.journal import Journal
from pipeline.tracking.lineage import machine, source
from pipeline.tracking.shipper import Shipper, wait_for_run
from pipeline.tracking.sync import sync
from pipeline.tuning import leaderboard, population
from pipeline.tuning.ending import Ending, limits
from pipeline.tuning.room import Room, join_cluster
from pipeline.tuning.search import choices, main_sweep, outcome, search_sweep, sentence
from pipeline.tuning.state import NAME as TRIALS
from pipeline.tuning.sweep import Sweep, checked
from pipeline.tuning.trials import Trials

LINKED = 40  # trials in a note, of which MLflow keeps some thousand characters


def tune_sweep(config: Config, store: Path, root: Path) -> dict[str, Any]:
    """The leaderboard of the sweep that `config` names; see `pipeline.tuning.leaderboard.board`.

    Its key `search` holds the outcome of sweep.search, which runs first (`pipeline.tuning.search.outcome`), or None.
    The name of a sweep, and of a search, is a hash of all that decides its result: the same command resumes an interrupted
    one, and trials that already ran are not run again.

    Raises:
        PipelineError: a space that cannot be searched, a trial that needs more than the cluster has, or failed trials.
        run.Interrupted: after a signal; call again to resume.
    """
    tags, search = source(root), config.sweep.search
    first, *_ = sweeps(config, store)  # checks all of them before the search, which may take hours
    if search is None:
        return {**_run(first, tags), "search": None}
    print(f"a search of {first.size} trials chooses {', '.join(search.take)} for the sweep")
    result = outcome(search, _run(first, {**tags, tracking.KIND_TAG: tracking.SEARCH})["trials"])
    print(sentence(result))
    return {**_run(checked(main_sweep(config, result["chosen"]), store), tags), "search": result}


def sweeps(config: Config, store: Path) -> list[Sweep]:
    """What `tune_sweep` may run: the sweep; with sweep.search, that search and a sweep for each of its choices.

    Raises:
        PipelineError: as `checked`.
    """
    search = config.sweep.search
    if search is None:
        return [checked(config, store)]
    mains = [checked(main_sweep(config, values), store) for values in choices(search)]
    return [checked(search_sweep(config, search), store, "search"), *mains]


def _run(sweep: Sweep, tags: dict[str, str]) -> dict[str, Any]:
    """The leaderboard of the finished sweep.

    Args:
        tags: for the runs of the trials in MLflow.
    """
    storage = sweep.config.cluster.storage
    with held(sweep.run, storage) as claim:
        _print_changes(sweep)
        bring_all(sweep.runs, storage, ("sweep-", "search-"))  # whose trials it takes over
        return _track(sweep, claim, tags)


def _track(sweep: Sweep, claim: Claim, tags: dict[str, str]) -> dict[str, Any]:
    """Runs the sweep as a run in MLflow, the parent of the trials' runs. A sweep that the cluster cannot hold is no run."""
    trials = sweep.trials(claim.require)
    if trials.done:
        print(f"{trials.done} of {sweep.size} trials are there already")
    ending = Ending(sweep.config.sweep.budget, trials, sweep.config.cluster.storage)
    put_store(sweep.config.cluster.storage, sweep.store)
    shipper = Shipper(
        sweep.run, sweep.location, kept=claim.kept
    )  # its thread makes MLflow's client ready while Ray starts
    try:
        room = join_cluster(sweep) if trials.done < sweep.size and not ending.why else None
        return _journaled(sweep, claim, trials, ending, room, tags)
    finally:
        claim.secure()
        shipper.close()


def _journaled(
    sweep: Sweep, claim: Claim, trials: Trials, ending: Ending, room: Room | None, tags: dict[str, str]
) -> dict[str, Any]:
    config, run = sweep.config, sweep.run
    own = {tracking.KEY_TAG: sweep.name, tracking.KIND_TAG: "sweep", tracking.DATA_TAG: sweep.content_hash}
    # MLflow keeps a parameter as it was first logged, and a later attempt may have a larger budget.
    settings = {f"sweep.{key}": value for key, value in asdict(config.sweep).items() if key != "budget"}
    settings |= {f"cluster.{key}": value for key, value in asdict(config.cluster).items()}
    journal = Journal(run, claim.require)
    journal.begin(f"{config.data.name}-{sweep.name}", config.data.name, settings, {**tags, **machine(), **own})
    try:
        if room is not None:
            _train(sweep, trials, ending, room, {**tags, tracking.PARENT_TAG: sweep.name})
        _ship_trials(sweep)
        board = leaderboard.board(sweep.name, sweep.content_hash, trials.all, config, sweep.location)
        if ending.by_budget and trials.done < sweep.size:
            board["ended"] = ending.why
        leaderboard.end_cut_off_runs(board, sweep.runs, config.cluster.storage, sweep.location)
        if sweep.is_population:
            board = _of_members(sweep, board, trials)
        write_json(run / "leaderboard.json", board, require=claim.require)
        journal.artifact(run / "leaderboard.json", "sweep")
        journal.tags({tracking.NOTE_TAG: _note(board["trials"])})
        if sweep.is_population and (stuck := population.stuck(config, trials.all)):
            raise PipelineError(stuck)
        _check_complete(sweep, trials, ending)
        if board["trials"] and (best := board["trials"][0]["val_err1"]) is not None:
            journal.metrics(trials.done, {"best_val_err1": best})
        journal.tags({tracking.ERROR_TAG: None})  # an earlier attempt's
        journal.end("FINISHED")
        return board
    except BaseException as error:
        with suppress(OSError, TakenOver):  # one of them then ended the sweep, and is the error to show
            journal.tags({tracking.ERROR_TAG: f"{type(error).__name__}: {first_line(error)}"[:500]})
            interrupted = isinstance(error, Interrupted | KeyboardInterrupt | SystemExit)
            journal.end("KILLED" if interrupted else "FAILED")
        raise


def _note(trials: Sequence[dict[str, Any]]) -> str:
    """Markdown that links the runs of the trials: MLflow nests a run below one sweep alone, that which trained it.

    Args:
        trials: of the leaderboard.
    """
    begun = [trial for trial in trials if trial["run_id"]]
    lines = [f"- [{trial['name']} {trial['key']}](#/runs/{trial['run_id']})" for trial in begun[:LINKED]]
    more = [f"- {len(begun) - LINKED} more in sweep/leaderboard.json"] if len(begun) > LINKED else []
    return "\n".join(["Trials, best first:", "", *lines, *more])


def _of_members(sweep: Sweep, board: dict[str, Any], trials: Trials) -> dict[str, Any]:
    """The leaderboard with the last trial of each member, and with what the population did."""
    members = [trial.point for trial in population.latest(sweep.config, trials.all)]
    entries = [entry for entry in board["trials"] if entry["config"] in members]
    keys = [entry["key"] for entry in entries if entry["status"] == "finished"]
    return {**board, "trials": entries, "population": population.history(sweep.config, trials.all, keys)}


def _check_complete(sweep: Sweep, trials: Trials, ending: Ending) -> None:
    failed = [trial for trial in trials.all if trial.status == "failed"]
    left = sweep.size - trials.done - len(failed)
    if left and not ending.by_budget and (ending.why or not _is_over(sweep, trials)):
        raise Interrupted(f"stopped with {left} of {sweep.size} trials unfinished{ending.why and f': {ending.why}'}")
    if failed:
        failures = "; ".join(
            dict.fromkeys(f"{trial.failure}{trial.host and f' (on {trial.host})'}" for trial in failed)
        )
        again = f"{ending.why}, and a larger budget" if ending.by_budget else hint("sweep retry")
        raise PipelineError(
            f"{len(failed)} of {sweep.size} trials failed ({'; '.join(trial.name for trial in failed)}): {failures}; their "
            f"errors are in {sweep.folder}/*/error.txt; {again} repeats them; the others are kept"
        )
    if left:
        print(f"{ending.why}; {left} of {sweep.size} trials are left, and a larger budget goes on with them")


def _is_over(sweep: Sweep, trials: Trials) -> bool:
    """Whether no further trial begins: each that the budget allows has ended or failed, or a population lacks a member."""
    failed = sum(trial.status == "failed" for trial in trials.all)
    if failed and sweep.is_population:
        return True
    return trials.done + failed >= sweep.allowed


def _train(sweep: Sweep, trials: Trials, ending: Ending, room: Room, tags: dict[str, str]) -> None:
    """Runs the trials that are left on Ray.

    Args:
        tags: for their runs in MLflow.
    """
    import ray

    from pipeline.tuning.experiment import tuner

    # Trials look up their parent in MLflow; if MLflow does not answer in time, they start without one.
    wait_for_run(sweep.run, patience_s=20, location=sweep.location)
    remove(sweep.folder)  # of an earlier attempt, which Tune is not to find
    trials.open(limits(sweep.config.sweep.budget))
    try:
        tuner(sweep, trials, ending, room, tags).fit()
    finally:
        failed = sum(trial.status == "failed" for trial in trials.all)
        whole = f"{failed} trials failed" if failed else "all trials are done"
        stuck = population.stuck(sweep.config, trials.all) if sweep.is_population else ""
        trials.close(ending.why or stuck or (whole if _is_over(sweep, trials) else "it was interrupted"))
    if any(trial.status == "unfinished" for trial in trials.all):
        ray.shutdown()  # an interrupted trial trains, and holds its run, until its process ends


def _ship_trials(sweep: Sweep) -> None:
    """Ships what MLflow lacks: trials that Ray has just ended, and runs of an earlier sweep."""
    try:
        sync(sweep.runs, sweep.location)
    except Exception as error:  # MLflow raises many kinds; the journals keep the runs
        print(f"MLflow does not have all trials yet ({first_line(error)}); {hint('sync')} ships them", file=sys.stderr)


def _print_changes(sweep: Sweep) -> None:
    """Prints that the sweep resumes, or how its configuration differs from the data set's last one of its role."""
    latest = sweep.folder.parent / f"latest-{sweep.role}-{sweep.config.data.name}.json"
    if (sweep.run / TRIALS).exists():
        print(f"resuming {sweep.name}")
    elif earlier := read_if_whole(latest):
        changed = changes(earlier, sweep.facts) or "nothing, but that one has no trials"
        print(f"a new {sweep.role}; changed since the last: {changed}")
    write_json(latest, sweep.facts)


def changes(before: dict[str, Any], after: dict[str, Any]) -> str:
    """The keys in which the facts of two sweeps differ, each with both values; "" if they are equal."""
    old, new = dict(leaves(before)), dict(leaves(after))
    keys = [key for key in sorted(old.keys() | new.keys()) if old.get(key) != new.get(key)]
    return "; ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in keys)
