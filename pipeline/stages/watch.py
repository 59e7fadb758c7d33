"""`pipeline sweep status` and `stop`, from any machine that shares paths.runs or cluster.storage, and `retry`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import Config
from pipeline.errors import PipelineError, hint, printable
from pipeline.run.shared import bring_all
from pipeline.tuning.ending import ask, spent
from pipeline.tuning.state import About
from pipeline.tuning.status import Watched, lines, watched
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.tuning.sweep import Sweep


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
    """Runs the configuration's sweep, or its search, again: failed trials are repeated, the others are kept.

    Raises:
        PipelineError: it is not the data set's last one, nor the one called `name`; no trial of it failed; or its budget is
            spent.
    """
    # Not for the others, which answer at once.
    from pipeline.stages.sweep import located, run
    from pipeline.tuning.tuner import sweeps

    (last, *_) = _watched(config, name)
    about = last.state.about
    sweep = _same(about, sweeps(located(config, workspace), workspace.store(config.data.name)))
    if not (failed := sum(trial.status == "failed" for trial in last.state.trials)):
        raise PipelineError(f"no trial of {about.sweep} has failed; {hint('sweep')} goes on with what is unfinished")
    if why := spent(sweep.config.sweep.budget, sweep.trials()):
        raise PipelineError(f"{why}, so that no trial of {about.sweep} is repeated; give a larger budget")
    print(f"{failed} failed trials of {about.sweep} are repeated")
    run(config, workspace)


def _same(about: About, ours: Sequence[Sweep]) -> Sweep:
    """The one of the configuration's sweeps that is on record; raises PipelineError if none is."""
    from pipeline.tuning.tuner import changes

    if same := next((sweep for sweep in ours if sweep.name == about.sweep), None):
        return same
    other = next((sweep for sweep in ours if sweep.role == about.role), ours[0])
    lost = [what for what in ("code", "data") if about.facts.get(what) != other.facts[what]]
    raise PipelineError(
        f"{about.sweep} is not the sweep of this configuration, {other.name} (as it was started -> as given now: "
        f"{printable(changes(about.facts, other.facts), 1000)}); "
        + (
            f"its {' and '.join(lost)} changed since then, so {hint('sweep')} starts a new one"
            if lost
            else "give the overrides with which it was started, or the name of another sweep"
        )
    )
