"""What sweeps are doing, from their folders alone: on any machine that shares paths.runs, without Ray."""

from __future__ import annotations

import os
import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from pipeline.errors import MissingError, hint, printable
from pipeline.evaluation.intervals import wilson
from pipeline.tuning.state import BEAT_S, DONE, NAME, About, State, Trial, read

SILENT_S = 6 * BEAT_S  # without a sign of life a sweep on another machine is taken for ended
MOST = 10  # failures that are listed
ORDER = ("running", "waiting", "interrupted", "finished", "stopped", "diverged", "failed")


@dataclass(frozen=True)
class Watched:
    """A sweep as its folder shows it."""

    folder: Path
    state: State
    silent_s: float = 0.0  # since it last wrote its state

    @property
    def runs_now(self) -> bool:
        attempt = self.state.attempt
        if attempt.over or not attempt.pid:
            return False
        if attempt.host == socket.gethostname():
            return Path(f"/proc/{attempt.pid}").exists()
        return self.silent_s < SILENT_S


def watched(runs: Path, data: str, name: str = "") -> list[Watched]:
    """Sweeps and searches of a data set that are running; if none is, the last one. Newest first.

    Args:
        runs: folder of all runs.
        name: of the one to take, whether it runs or not; "" for any.
    Raises:
        MissingError: there is none.
    """
    sweeps: list[Watched] = []
    now = _now(runs)
    paths = [path for role in ("sweep", "search") for path in runs.glob(f"{role}-*/{NAME}")]
    for path in sorted(paths, key=lambda path: -path.stat().st_mtime):
        # A running sweep writes often, so that older files need no reading once there is an answer.
        silent_s = max(0.0, now - path.stat().st_mtime)
        if sweeps and silent_s > 10 * SILENT_S:
            break
        if name and path.parent.name != name:
            continue
        state = read(path, "it is left out here")
        if state.about.data == data:
            sweeps.append(Watched(path.parent, state, silent_s))
    if not sweeps:
        which = f"{name} of {data}" if name else f"a sweep of {data}"
        raise MissingError(f"{runs} does not hold {printable(which)}; {hint('sweep')} starts one")
    return [sweep for sweep in sweeps if sweep.runs_now] or sweeps[:1]


def _now(folder: Path) -> float:
    """By the clock that dates the files of `folder`; that of this machine may differ from it, and from the sweep's."""
    try:
        with TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime
    except OSError:  # whoever looks may not write there
        return time.time()


def lines(sweep: Watched) -> Iterator[str]:
    """What `pipeline sweep status` prints of a sweep."""
    state, attempt = sweep.state, sweep.state.attempt
    yield f"{state.about.sweep} of {state.about.data}: {_doing(sweep)}"
    counts = Counter(_standing(trial, runs_now=sweep.runs_now) for trial in state.trials)
    counts["waiting"] += state.about.size - len(state.trials)
    listed = ", ".join(f"{counts[status]} {status}" for status in ORDER if counts[status])
    yield f"  trials    {sum(trial.status in DONE for trial in state.trials)} of {state.about.size} done: {listed}"
    if (best := _best(state.trials)) is not None:
        yield f"  best      {_result(best, state.about)}"
    if sweep.runs_now and (speed := _speed(state)):
        yield f"  speed     {speed}"
    if attempt.budget:
        yield f"  budget    {', '.join(_used(state))}"
    if attempt.cluster:
        yield f"  cluster   {_load(attempt.cluster)}"
    failures = [trial for trial in state.trials if trial.failure]
    for trial in failures[:MOST]:
        again = "" if trial.status == "failed" else ", to be repeated"
        yield f"  failure   {trial.name}{trial.host and f' on {trial.host}'}{again}: {printable(trial.failure)}"
    if len(failures) > MOST:
        yield f"  failure   {len(failures) - MOST} more are in {sweep.folder / NAME}"


def _doing(sweep: Watched) -> str:
    attempt, silent = sweep.state.attempt, _span(sweep.silent_s)
    where = f"process {attempt.pid} on {attempt.host}"
    if sweep.runs_now:
        since = _span(attempt.written - attempt.began + sweep.silent_s)
        return f"running for {since} ({where}), last sign of life {silent} ago"
    if not attempt.pid:
        return "no trial of it was begun"
    return f"ended {silent} ago ({where}): {attempt.over or 'it was killed, or its machine cannot be reached'}"


def _standing(trial: Trial, *, runs_now: bool) -> str:
    """A trial's status, where an unfinished one is told apart by what it is doing."""
    if trial.status != "unfinished":
        return trial.status
    if runs_now and trial.began and not trial.over:
        return "running"
    return "interrupted" if trial.began else "waiting"


def _best(trials: Sequence[Trial]) -> Trial | None:
    measured = [trial for trial in trials if trial.val_err1 is not None and trial.status != "diverged"]
    return min(measured, key=lambda trial: trial.val_err1 or 0.0, default=None)


def _result(trial: Trial, about: About) -> str:
    error = trial.val_err1 or 0.0
    text, num_val = f"error {100 * error:.2f} %", about.num_val
    if about.detects:  # AP is no share of the images, so that it has no interval of that kind
        text = f"AP {100 * (1 - error):.1f} %"
    elif num_val:
        low, high = wilson(round(error * num_val), num_val)
        text += f" (95 % interval {100 * low:.2f} to {100 * high:.2f} %, of {num_val:,} images)"
    return f"{trial.name or trial.key}: validation {text} after {trial.steps:,} steps, run {trial.key}"


def _speed(state: State) -> str:
    """Trials an hour in this attempt, and when the last one would end; "" before there is a rate."""
    attempt, progress = state.attempt, state.progress
    made, seconds = progress - attempt.progress, attempt.written - attempt.began
    if made <= 0 or seconds <= 0:
        return ""
    size = min(state.about.size, int(attempt.budget.get("trials", state.about.size)))
    left = max(0.0, size - progress) * seconds / made
    return f"{3600 * made / seconds:.3g} trials an hour; what is left takes {_span(left)} if no more are stopped early"


def _used(state: State) -> Iterator[str]:
    used = {
        "trials": float(sum(trial.status in DONE for trial in state.trials)),
        "steps": float(sum(max(0, trial.steps - trial.first_step) for trial in state.trials)),
        "hours": state.attempt.seconds / 3600,
    }
    for key, limit in state.attempt.budget.items():
        yield f"{used[key]:,.4g} of {limit:,.4g} {key}" if key == "hours" else f"{used[key]:,.0f} of {limit:,.0f} {key}"


def _load(cluster: dict[str, list[float]]) -> str:
    machines = int(cluster.get("machines", [0.0, 0.0])[1])
    parts = [f"{used:g} of {have:g} {kind} in use" for kind, (used, have) in cluster.items() if kind != "machines"]
    return f"{', '.join(parts)} on {machines} machine{'s' * (machines != 1)}"


def _span(seconds: float) -> str:
    """90 s, 12 min, 3.4 h."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
