"""What start.weights may name. Apart from `start`, which reads the weights, so that a sweep starts without torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pipeline.atomic import read_if_whole, read_json
from pipeline.config import SWEEP
from pipeline.errors import MissingError, PipelineError, hint, printable
from pipeline.run import RUN as RECORD
from pipeline.tracking.location import Location, require_answer
from pipeline.tracking.registry import run_of
from pipeline.workspace import Workspace

RUN, TORCHVISION, PUBLISHED = "run:", "torchvision:", "published:"  # what is no file
FOLDER = Path("results/weights")  # of published weights, below the repository's root
ENDED = ("finished", "stopped", "FINISHED")  # in run.json, and MLflow's word


def anchored(weights: str, workspace: Workspace) -> str:
    """start.weights for ranks and trials, which run in other folders: the runs of a sweep by their keys, a file or published
    weights by an absolute path, in which ~ is the user's home.

    Raises:
        MissingError: no such published weights, or no sweep of this data set.
        PipelineError: no trial of the sweep has finished.
    """
    if not weights or weights.startswith((RUN, TORCHVISION)):
        return weights
    if weights.startswith(PUBLISHED):
        return str(published(weights.removeprefix(PUBLISHED), workspace.home))
    if weights.startswith(SWEEP):
        return RUN + ",".join(_finished(weights.removeprefix(SWEEP), workspace))
    return str((workspace.home / os.path.expanduser(weights)).resolve())


def weights_title(weights: str) -> str:
    """Of start.weights in tables: a path is shown by its file's name, several runs by their number."""
    runs = weights.removeprefix(RUN).split(",") if weights.startswith(RUN) else []
    return f"one of {len(runs)} runs" if len(runs) > 1 else weights.rsplit("/", 1)[-1]


def status_in(folder: Path) -> str:
    """Of the run in `folder`; adopted nets have no run.json, and are finished."""
    return str(read_if_whole(folder / RECORD).get("status", "finished"))


def require_ended(key: str, weights: str, status: str, best: Path | None = None) -> None:
    """Raises PipelineError for a run that goes on, or that broke off.

    Args:
        key: of the configuration, whose value `weights` names the run.
        status: in run.json, or MLflow's.
        best: the run's best weights so far; None where MLflow alone has the run.
    """
    if status in ENDED:
        return
    so_far = f"; {key}={best} takes its best weights so far" if best and best.is_file() else ""
    raise PipelineError(
        f"{key}={printable(weights)}: the run has not finished (its status is {printable(status.lower())}); the "
        f"command that trains it goes on with it{so_far}"
    )


def ended_in_mlflow(key: str, weights: str, run: str, runs: Path, location: Location) -> Any:
    """MLflow's run with the key or id `run`, which has ended.

    Args:
        key: of the configuration, whose value `weights` names the run.
        runs: folder of all runs, which lacks it.
    Raises:
        MissingError: MLflow has no such run.
        PipelineError: it does not answer, or the run has not finished.
    """
    require_answer(location, f"{key}={printable(weights)} is not in {runs}")
    there = run_of(location, run)
    require_ended(key, weights, str(there.info.status))
    return there


def _finished(name: str, workspace: Workspace) -> list[str]:
    """Keys of the nets that the pretrain stage trained on the data set `name`, else of the last sweep there, the best first.

    The stage's result comes first, since it is what DVC takes the later stages to depend on.
    """
    made, path = workspace.result("pretrained"), Workspace(workspace.root, name).leaderboard
    if keys := [run["key"] for run in read_if_whole(made).get("runs", []) if run["data"] == name]:
        return keys
    if not path.is_file():
        shown = workspace.shown(path)
        raise MissingError(f"start.weights={SWEEP}{name}: {shown} is missing; {hint('pretrain')} trains these nets")
    trials = read_json(path, f"`pipeline sweep data={name}` writes it again")["trials"]
    keys = [trial["key"] for trial in trials if trial["status"] == "finished"]
    if not keys:
        raise PipelineError(
            f"start.weights={SWEEP}{name}: no trial of that sweep has finished; `pipeline sweep data={name}` goes on with it"
        )
    return keys


def published(name: str, root: Path) -> Path:
    """The file of the published weights `name`, for example cifar10-resnet20.

    Raises:
        MissingError: there are none of this name.
    """
    there = {path.stem: path for path in sorted((root / FOLDER).glob("*.safetensors"))}
    if name not in there:
        names = ", ".join(f"{PUBLISHED}{each}" for each in there)
        remedy = (
            f"choose one of {names}" if names else "`git restore results/weights` brings those of the repository back"
        )
        raise MissingError(f"{PUBLISHED}{printable(name)} is not in {FOLDER}; {remedy}")
    return there[name].resolve()
