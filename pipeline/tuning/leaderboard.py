"""The outcome of a sweep: trials by validation error."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

from pipeline.atomic import read_json, write_json
from pipeline.run.attempt import end_cut_off
from pipeline.run.run import RUN
from pipeline.tracking import journal
from pipeline.tracking.shipper import run_id
from pipeline.tracking.store import PARENT_TAG, Location
from pipeline.tuning.space import trial_name


def entry(
    chosen: dict[str, Any], last: dict[str, Any], tune_status: str, runs: Path, location: Location
) -> dict[str, Any]:
    """One trial's line, from what it last reported, how Tune left it and what its run's folder says.

    Its status: finished, stopped (by the scheduler), diverged, failed, or unfinished (the sweep was cut off).
    """
    key = last.get("key") or ""
    folder = runs / key
    finished = bool(key) and (folder / RUN).exists() and read_json(folder / RUN)["status"] == "finished"
    if tune_status == "TERMINATED":
        status = "diverged" if last.get("error") else "finished" if finished else "stopped"
    else:
        status = "failed" if tune_status == "ERROR" else "unfinished"
    return {
        "name": trial_name(chosen),
        "key": key,
        "run_id": run_id(folder, location) if key else None,
        "config": chosen,
        "val_err1": last.get("best/err1"),
        "steps": last.get("step", 0),
        "stopped_early": status == "stopped",
        "status": status,
    }


def end_cut_off_runs(leaderboard: dict[str, Any], runs: Path, location: Location) -> None:
    """For trials whose process Ray ended before it could say so itself."""
    ended = {trial["key"]: trial["status"] for trial in leaderboard["trials"] if trial["key"]}
    for path in runs.glob(f"*/{journal.NAME}"):
        if path.parent.name not in ended and _parent(path) == leaderboard["sweep"]:
            ended[path.parent.name] = "unfinished"  # it was cut off before it reported its key
    for key, status in ended.items():
        if status in ("stopped", "unfinished", "failed"):
            # The end of a sweep reaches a trial like its scheduler's stop, if it does at all.
            left = ("running", "stopped") if status == "unfinished" else ("running",)
            try:
                end_cut_off(runs / key, location, left)
            except ValueError as error:  # another sweep, or the train stage, goes on with this run
                print(f"left as it is: {error}", file=sys.stderr)


def _parent(path: Path) -> str | None:
    """The sweep that a journal's run was last begun by."""
    begun = [event for event in journal.read(path)[0] if event["event"] == "begin"]
    return begun[-1]["tags"].get(PARENT_TAG) if begun else None


def board(name: str, entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Trials, best first; those without a result last."""
    ranked = sorted(entries, key=lambda e: (e["val_err1"] is None, e["val_err1"] or 0.0, e["name"]))
    return {"sweep": name, "metric": "val/err1", "trials": ranked}


def write(leaderboard: dict[str, Any], path: Path) -> None:
    write_json(path, leaderboard)


def show(leaderboard: dict[str, Any]) -> None:
    """The board as a table on stdout."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"sweep {leaderboard['sweep']}")
    for column in ("trial", "validation error", "steps", "status", "run"):
        justify: Literal["left", "right"] = "right" if column in ("validation error", "steps") else "left"
        table.add_column(column, justify=justify, overflow="fold")  # a name that is cut short names no trial
    for trial in leaderboard["trials"]:
        error = "-" if trial["val_err1"] is None else f"{100 * trial['val_err1']:.2f} %"
        table.add_row(trial["name"], error, f"{trial['steps']:,}", trial["status"], trial["key"])
    Console().print(table)
