"""The outcome of a sweep: trials by validation error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pipeline.config import Config, ModelConfig
from pipeline.errors import PipelineError
from pipeline.run.cut_off import end_cut_off
from pipeline.tracking import journal
from pipeline.tracking.location import PARENT_TAG, Location
from pipeline.tracking.shipper import run_id
from pipeline.tuning.space import trial_name
from pipeline.tuning.state import Trial


def board(sweep: str, content_hash: str, trials: Sequence[Trial], config: Config, location: Location) -> dict[str, Any]:
    """The leaderboard of the `trials` on a store, best first; those without a result last.

    The status of a trial is finished, stopped (by the scheduler), diverged, failed, or unfinished (the sweep was interrupted,
    or its budget spent, which its key `ended` then says).
    """
    entries = [_entry(trial, config, location) for trial in trials]
    entries.sort(key=lambda entry: (entry["val_err1"] is None, entry["val_err1"] or 0.0, entry["name"]))
    return {"sweep": sweep, "data": content_hash, "metric": "val/err1", "trials": entries}


def _entry(trial: Trial, config: Config, location: Location) -> dict[str, Any]:
    folder = Path(config.paths.runs).resolve() / trial.key
    return {
        "name": trial_name(trial.point, config),
        "key": trial.key,
        "run_id": run_id(folder, location) if trial.key else None,
        "config": trial.point,
        "val_err1": trial.val_err1,
        "steps": trial.steps,
        "stopped_early": trial.status == "stopped",
        "status": trial.status,
    }


def end_cut_off_runs(leaderboard: dict[str, Any], runs: Path, storage: str, location: Location) -> None:
    """Marks the runs of trials as ended whose process Ray killed before it could do so itself."""
    statuses = {trial["key"]: trial["status"] for trial in leaderboard["trials"] if trial["key"]}
    for path in runs.glob(f"*/{journal.NAME}"):
        if path.parent.name not in statuses and _parent(path) == leaderboard["sweep"]:
            statuses[path.parent.name] = "unfinished"  # interrupted before it reported its key
    for key, status in statuses.items():
        if status in ("stopped", "unfinished", "failed"):
            # An interrupted trial may have taken the end of its sweep for a stop by the scheduler.
            left = ("running", "stopped") if status == "unfinished" else ("running",)
            try:
                end_cut_off(runs / key, storage, location, left)
            except PipelineError as error:  # another sweep, or the train stage, has resumed this run
                print(f"left as it is: {error}", file=sys.stderr)


def _parent(path: Path) -> str | None:
    """The sweep that last began the journal's run."""
    begins = [event for event in journal.read(path)[0] if event["event"] == "begin"]
    return begins[-1]["tags"].get(PARENT_TAG) if begins else None


def show(leaderboard: dict[str, Any], model: ModelConfig) -> None:
    """Prints the leaderboard as a table.

    Args:
        model: tells whether trials are measured by error or by AP.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"sweep {leaderboard['sweep']}")
    measure = f"validation {model.score(0.0).split()[0]}"
    for column in ("trial", measure, "steps", "status", "run"):
        justify: Literal["left", "right"] = "right" if column in (measure, "steps") else "left"
        table.add_column(column, justify=justify, overflow="fold")  # names stay whole
    for trial in leaderboard["trials"]:
        error = "-" if trial["val_err1"] is None else model.score(trial["val_err1"]).split(maxsplit=1)[1]
        table.add_row(escape(trial["name"]), error, f"{trial['steps']:,}", trial["status"], trial["key"])
    Console().print(table)
    if population := leaderboard.get("population"):
        segments = {segment["key"]: segment for segment in population["segments"]}
        steps = [f"{segments[key]['lr']:.4g} to step {segments[key]['to_step']:,}" for key in population["best"]]
        print(f"learning rate of the best member: {', '.join(steps)}")
