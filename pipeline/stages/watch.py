"""`pipeline sweep status` and `stop`, from any machine that shares paths.runs or cluster.storage, and `retry`."""

from __future__ import annotations

from pathlib import Path

from pipeline.config import Config
from pipeline.errors import PipelineError, hint
from pipeline.run.shared import bring_all
from pipeline.tuning.ending import ask
from pipeline.tuning.status import Watched, lines, watched
from pipeline.workspace import Workspace


def status(config: Config, workspace: Workspace, name: str) -> None:
    for sweep in _watched(config, name):
        print(*lines(sweep), sep="\n")


def _watched(config: Config, name: str) -> list[Watched]:
    runs = Path(config.paths.runs)
    bring_all(runs, config.cluster.storage, ("sweep-", "search-"))
    return watched(runs, config.data.name, name)


def stop(config: Config, workspace: Workspace, name: str) -> None:
    """Asks the running sweep of the data set to end.

    Raises:
        PipelineError: none is running, or several are.
    """
    running = [sweep for sweep in _watched(config, name) if sweep.runs_now]
    if not running:
        raise PipelineError(
            f"no sweep of {config.data.name} is running; `pipeline sweep status` says how the last one ended"
        )
    if len(running) > 1:
        names = ", ".join(sweep.state.about.sweep for sweep in running)
        raise PipelineError(
            f"{len(running)} sweeps of {config.data.name} are running: {names}; name the one to stop: `pipeline sweep stop "
            f"{running[0].state.about.sweep} data={config.data.name}`"
        )
    (sweep,) = running
    attempt = sweep.state.attempt
    ask(sweep.folder / attempt.stop, config.cluster.storage)
    print(
        f"asked {sweep.state.about.sweep} (process {attempt.pid} on {attempt.host}) to end: its trials save a checkpoint and "
        "stop, and the same command goes on"
    )


def retry(config: Config, workspace: Workspace, name: str) -> None:
    """Runs the sweep again: failed trials are repeated, the others are kept.

    Raises:
        PipelineError: no trial of it failed.
    """
    (last, *_) = _watched(config, name)
    about = last.state.about
    if not (failed := sum(trial.status == "failed" for trial in last.state.trials)):
        raise PipelineError(f"no trial of {about.sweep} has failed; {hint('sweep')} goes on with what is unfinished")
    print(f"{failed} failed trials of {about.sweep} are repeated")

    from pipeline.stages.sweep import run  # not for the others, which answer at once

    run(config, workspace)
