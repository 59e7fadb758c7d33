"""Builds the sweep's Tuner, or restores it where an earlier one was cut off."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, write_json
from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.run.checkpoint import FolderLock
from pipeline.run.key import code_version, deciding
from pipeline.run.stop import Interrupted
from pipeline.tracking import store as tracking
from pipeline.tracking.journal import Journal
from pipeline.tracking.lineage import lineage
from pipeline.tracking.shipper import Shipper, ship_all, wait_for_run
from pipeline.tuning import leaderboard
from pipeline.tuning.cluster import check_precision, check_tracking, join, on_gpus, side_by_side
from pipeline.tuning.space import (
    check_space,
    chosen,
    example_points,
    grid_size,
    most,
    search_space,
    trial_name,
    values_of,
)
from pipeline.tuning.trial import run_trial, trial_config

FACTS = "sweep.json"


def tune_sweep(config: Config, store: Path, root: Path) -> dict[str, Any]:
    """The leaderboard of the sweep that `config` names; see `pipeline.tuning.leaderboard.board`.

    The experiment's name is a hash of all that decides its result: the same command goes on where it was cut off, and
    trials that already ran are not run again.

    Raises:
        ValueError: a space that cannot be searched, or a trial that needs more than the cluster has.
    """
    facts = _facts(config, open_store(store).manifest.content_hash)
    name = "sweep-" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
    runs = Path(config.paths.runs).resolve()
    folder = runs / "ray" / name
    train, _ = open_store(store).split_indices("holdout", config.data.num_train)
    _check(config, len(train))
    _say_what_changed(folder, facts)
    location = tracking.locate(config.tracking.uri, config.paths.mlruns)
    with FolderLock(runs / name):
        return _tracked_search(config, store, root, name, location)


def _tracked_search(config: Config, store: Path, root: Path, name: str, location: tracking.Location) -> dict[str, Any]:
    """The sweep as a run in MLflow, parent of its trials' runs."""
    manifest = open_store(store).manifest
    parent = Path(config.paths.runs).resolve() / name
    folder = parent.parent / "ray" / name
    journal = Journal(parent)
    tags = {
        tracking.KEY_TAG: name,
        tracking.KIND_TAG: "sweep",
        tracking.DATA_TAG: manifest.content_hash,
        **lineage(root),
    }
    journal.begin(
        f"{config.data.name}-{name}", config.data.name, {f"sweep.{k}": v for k, v in asdict(config.sweep).items()}, tags
    )
    shipper = Shipper(parent, location)
    status = "KILLED"
    try:
        _start_ray(config)
        # So that the trials find their parent; without MLflow they go ahead.
        wait_for_run(parent, patience_s=20, location=location)
        train, _ = open_store(store).split_indices("holdout", config.data.num_train)
        board = _search(config, store, name, {**lineage(root), tracking.PARENT_TAG: name}, len(train))
        leaderboard.end_cut_off_runs(board, parent.parent, location)
        write_json(folder / "leaderboard.json", board)
        journal.artifact(folder / "leaderboard.json", "sweep")
        expected = grid_size(config.sweep.space) * config.sweep.num_samples
        done = sum(trial["status"] != "unfinished" for trial in board["trials"])
        if done < expected:  # Tune makes trials as it goes: a sweep that was cut off may not have made them all
            raise Interrupted(f"stopped with {expected - done} of {expected} trials unfinished")
        failed = [trial["name"] for trial in board["trials"] if trial["status"] == "failed"]
        if failed:
            raise ValueError(
                f"{len(failed)} of {len(board['trials'])} trials failed ({'; '.join(failed)}); their errors are in "
                f"{folder}/*/error.txt; run the same command to try them again, the others are kept"
            )
        journal.metrics(len(board["trials"]), {"best/err1": board["trials"][0]["val_err1"]})
        status = "FINISHED"
        return board
    finally:
        journal.end(status)
        shipper.close()


def _start_ray(config: Config) -> None:
    """Joins the cluster, or starts it; MLflow's client gets ready meanwhile, in the shipper's thread."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    join(
        config,
        log_to_driver=False,
        # An actor is used again only if the stopped trial's thread ends in time; it ships its journal first.
        runtime_env={"env_vars": {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "60"}},
    )
    # Ray aborts on SIGTERM; Tune answers SIGINT by saving the sweep's state.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    check_tracking(tracking.locate(config.tracking.uri, config.paths.mlruns))


def _search(config: Config, store: Path, name: str, tags: dict[str, str], num_train: int) -> dict[str, Any]:
    """Runs the trials that have not run; the leaderboard of all."""
    import ray
    from ray import tune

    location = tracking.locate(config.tracking.uri, config.paths.mlruns)
    sweep, cluster = config.sweep, ray.cluster_resources()
    check_precision(config, cluster)
    if config.trainer.world_size > 1:
        # Ray Train gives up on ranks that wait long for others to end, so no more start than have room.
        room = side_by_side(config, cluster)
        at_once = min(sweep.max_concurrent or room, room)
    else:
        _check_resources(_resources(config, cluster), cluster)
        at_once = sweep.max_concurrent
    work = tune.with_parameters(
        run_trial,
        config=config.to_dict(),
        store=str(store.resolve()),
        tags=tags,
        cpus=sweep.cpus_per_trial,
        num_train=num_train,
    )
    trainable = tune.with_resources(work, tune.PlacementGroupFactory([_resources(config, cluster)]))
    runs = Path(config.paths.runs).resolve()
    folder = runs / "ray" / name
    # Tune says that it can restore a sweep from the moment it is named; there is a state once a trial was made.
    if any(folder.glob("experiment_state-*.json")):
        tuner = tune.Tuner.restore(str(folder), trainable, resume_unfinished=True, resume_errored=True)
    else:
        tuner = _new_tuner(config, trainable, folder, at_once, num_train)
    tuner.fit()
    trials = tune.ExperimentAnalysis(str(folder)).trials or []
    if any(trial.status not in ("TERMINATED", "ERROR") for trial in trials):
        ray.shutdown()  # a trial that was cut off trains until its process ends, and holds its run
    if any(not trial.config for trial in trials):
        raise ValueError(
            f"the state of {name} cannot be read; delete {folder} and run the same command: finished runs are kept"
        )
    # Runs of an earlier sweep may have been tracked in another MLflow, or in none.
    try:
        ship_all(runs, location)
    except Exception as error:  # whatever MLflow raises; the journals keep the runs
        print(f"MLflow does not have all trials yet ({error}); `pipeline sync` ships them", file=sys.stderr)
    entries = [
        leaderboard.entry(chosen(trial.config), trial.last_result or {}, trial.status, runs, location)
        for trial in trials
    ]
    return leaderboard.board(name, entries)


def _new_tuner(config: Config, trainable: Any, folder: Path, at_once: int, num_train: int) -> Any:
    """The sweep from its beginning, its state in `folder`; `at_once` trials side by side, 0 for as many as have room."""
    from ray import tune
    from ray.tune.search import BasicVariantGenerator

    from pipeline.tuning.console import TrialLines

    sweep = config.sweep
    return tune.Tuner(
        trainable,
        param_space=search_space(sweep.space),
        tune_config=tune.TuneConfig(
            metric="val/err1",
            mode="min",
            num_samples=sweep.num_samples,
            scheduler=_scheduler(config, num_train),
            # Ranges are drawn from by the seed, not by the state of the process.
            search_alg=BasicVariantGenerator(max_concurrent=at_once, random_state=config.seed),
            # A stopped trial's process must end for its ranks to end.
            reuse_actors=config.trainer.world_size == 1,
            trial_name_creator=lambda trial: trial_name(chosen(trial.config)),
            trial_dirname_creator=lambda trial: f"{trial_name(chosen(trial.config))}-{trial.trial_id}",
        ),
        run_config=tune.RunConfig(
            name=folder.name,
            storage_path=str(folder.parent),
            failure_config=tune.FailureConfig(max_failures=sweep.max_failures),
            callbacks=[TrialLines(grid_size(sweep.space) * sweep.num_samples, config.recipe.max_steps)],
            verbose=0,
        ),
    )


def _scheduler(config: Config, num_train: int) -> Any:
    """ASHA over epochs, or none."""
    from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

    if not config.sweep.reduction_factor:
        return FIFOScheduler()
    epochs = _most_epochs(config, num_train)
    return ASHAScheduler(
        time_attr="epoch",
        max_t=epochs + 1,  # the last validation belongs to the run: stopping there would call a finished run stopped
        grace_period=min(config.sweep.grace_epochs, epochs),
        reduction_factor=config.sweep.reduction_factor,
    )


def _most_epochs(config: Config, num_train: int) -> int:
    """Of the longest trial that the space allows."""

    space, recipe = config.sweep.space, config.recipe
    batch_size = most(space, "recipe.batch_size", recipe.batch_size)
    swept = [part for part in values_of(space, "data.num_train") if part]  # 0 stands for the whole split
    num_train = min([num_train, *swept])
    if batch_size > num_train:
        raise ValueError(
            f"recipe.batch_size={batch_size} is larger than the {num_train} training images; choose a smaller one"
        )
    return -(-most(space, "recipe.max_steps", recipe.max_steps) // (num_train // batch_size))


def _check(config: Config, num_train: int) -> None:
    """Every point of the grid must be a valid configuration before Ray starts."""
    check_space(config.sweep.space, config.sweep.num_samples)
    for point in example_points(config.sweep.space):
        trial_config(config, point, config.sweep.cpus_per_trial)
    _most_epochs(config, num_train)


def _resources(config: Config, cluster: dict[str, float]) -> dict[str, float]:
    """What Ray sets aside for a trial."""
    if config.trainer.world_size > 1:
        # Its ranks hold the CPUs and GPUs. The trial's own process waits for them, on the head node, and takes nothing.
        return {"node:__internal_head__": 0.001}
    # Ray shows all GPUs to who asked for none, and training would take the first: each trial asks for its own.
    gpus = config.sweep.gpus_per_trial or float(on_gpus(config, cluster))
    return {"CPU": config.sweep.cpus_per_trial, "GPU": gpus}


def _check_resources(needs: dict[str, float], cluster: dict[str, float]) -> None:
    for resource, amount in needs.items():
        if amount > cluster.get(resource, 0):
            raise ValueError(
                f"a trial needs {amount:g} {resource}, the Ray cluster has {cluster.get(resource, 0):g}; "
                f"lower sweep.{resource.lower()}s_per_trial, or name a larger cluster in sweep.address"
            )


def _facts(config: Config, content_hash: str) -> dict[str, Any]:
    """All that decides a sweep's result, and what Tune keeps from a sweep's start on."""
    sweep = asdict(config.sweep)
    del sweep["address"]
    return {
        "data": [config.data.name, content_hash],
        "model": asdict(config.model),
        "recipe": asdict(config.recipe),
        "trainer": deciding(config),
        "seed": config.seed,
        "start": asdict(config.start),
        "num_train": config.data.num_train,
        "sweep": sweep,
        "code": code_version(),
    }


def _say_what_changed(folder: Path, facts: dict[str, Any]) -> None:
    """Tells, where a sweep of the same data is not the last one, what makes it another."""
    latest = folder.parent / f"latest-{facts['data'][0]}.json"
    if latest.exists() and not folder.exists():
        old, new = _flat(read_json(latest)), _flat(facts)
        changed = [
            f"{key}: {old.get(key)} -> {new.get(key)}"
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        print("a new sweep; changed since the last: " + "; ".join(changed))
    elif folder.exists():
        print(f"going on with {folder.name}")
    write_json(latest, facts)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value})
    return flat
