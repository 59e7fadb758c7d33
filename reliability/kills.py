"""A process of `dvc repro` killed at a random moment: SIGKILL, SIGTERM, SIGINT.

Kills follow one another until the experiment is done; then its outputs are compared with those of an undisturbed one, and
the next round begins in an empty workspace. A round's kills all count as failed where its end is not as promised.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from pipeline.errors import PipelineError
from pipeline.parent import remove_torn_lock
from reliability import Outcome
from reliability.workspace import MARK, STAGES, copy_of_repository, marked, remove_made, results, untidy

PROMISE = "the same command resumes; outputs as undisturbed, bit for bit; one run per training in MLflow; no process and no temporary file is left"
ROUNDS, SIDE_BY_SIDE = 6, 2  # a round makes 36 kills
PER_ROUND = {
    "compose": 4,
    "fetch": 5,
    "preprocess": 5,
    "pretrain": 2,  # nothing to train: digits start from no sweep
    "sweep": 2,  # each starts Ray, which takes longer than any other stage
    "train": 6,
    "ensemble": 4,
    "evaluate": 4,
    "report": 4,
}
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
VICTIMS = ("the stage", "dvc", "all processes")
PATIENCE_S = 180.0  # for a command to end, and for its processes to follow it
BETWEEN = "the time between stages"
ROW = "SIGKILL, SIGTERM or SIGINT during"


@dataclass
class Repro:
    """A running `dvc repro`."""

    root: Path
    log: Path

    def __post_init__(self) -> None:
        remove_torn_lock(self.root)  # as `make repro` does
        self.mark = uuid.uuid4().hex
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        environment = {**os.environ, MARK: self.mark, "PYTHONPATH": str(self.root), "PATH": path}
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                ["dvc", "repro"], cwd=self.root, env=environment, stdout=stream, stderr=stream, start_new_session=True
            )

    def stage(self) -> tuple[str, psutil.Process] | None:
        """The stage that runs, and its process."""
        with suppress(psutil.Error):
            for child in psutil.Process(self.process.pid).children(recursive=True):
                words = child.cmdline()
                if words[1:3] == ["-m", "pipeline"] and words[3:] and words[3] in STAGES:
                    return words[3], child
        return None

    def reaches(self, stage: str) -> str | None:
        """The stage that runs, as soon as that is `stage` or a later one; None where the command ends first."""
        until = time.monotonic() + PATIENCE_S
        while self.process.poll() is None and time.monotonic() < until:
            running = self.stage()
            if running and STAGES.index(running[0]) >= STAGES.index(stage):
                return running[0]
            time.sleep(0.01)
        return None

    def end(self) -> list[str]:
        """Waits for the command and all its processes to end; what did not end in time, which it then kills."""
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            if self.process.poll() is not None and not marked(self.mark):
                return []
            time.sleep(0.1)
        left = marked(self.mark)
        for process in left:
            with suppress(psutil.Error):
                process.kill()
        self.process.wait()
        return [f"still running after {PATIENCE_S:.0f} s: {' '.join(_words(process))[:80]}" for process in left]


def _words(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return [str(process.pid)]


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    first = copy_of_repository(scratch / "undisturbed")
    durations = _undisturbed(first, scratch / "undisturbed.log")
    expected = results(first)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        jobs = [
            pool.submit(_round, random.Random(f"{seed} {at}"), scratch / f"round-{at}", durations, expected)
            for at in range(ROUNDS)
        ]
        for job in as_completed(jobs):
            yield from job.result()


def _undisturbed(root: Path, log: Path) -> dict[str, float]:
    """Seconds that each stage takes without a fault."""
    repro, durations, running, since = Repro(root, log), dict.fromkeys(STAGES, 0.5), "", time.monotonic()
    while repro.process.poll() is None:
        now = repro.stage()
        if now and now[0] != running:
            if running:
                durations[running] = time.monotonic() - since
            running, since = now[0], time.monotonic()
        time.sleep(0.02)
    durations[running] = time.monotonic() - since
    repro.end()
    if repro.process.returncode:
        raise RuntimeError(f"the undisturbed `dvc repro` failed:\n{log.read_text(encoding='utf-8')[-2000:]}")
    return durations


def _round(draw: random.Random, root: Path, durations: dict[str, float], expected: object) -> list[Outcome]:
    """Kills in each stage in turn, from an empty workspace on, then an end without a fault."""
    copy_of_repository(root)
    outcomes = []
    for stage in STAGES:
        for _ in range(PER_ROUND[stage]):
            remove_made(root, stage)
            outcome = _kill(draw, root, stage, durations)
            if outcome is not None:
                outcomes.append(outcome)
    repro = Repro(root, root.with_suffix(".log"))
    problems = repro.end()
    if repro.process.returncode:
        problems.append(f"dvc repro ends with {repro.process.returncode}: {_last_lines(repro.log)}")
    else:
        problems += [*untidy(root), *_differences(root, expected)]
    if not problems:
        return outcomes
    return [replace(outcome, ok=False, detail="; ".join([outcome.detail, *problems])) for outcome in outcomes]


def _differences(root: Path, expected: object) -> list[str]:
    try:
        made = results(root)
    except (OSError, PipelineError) as error:
        return [f"outputs that cannot be read: {error}"]
    return [] if made == expected else [f"other outputs: {made} instead of {expected}"]


def _kill(draw: random.Random, root: Path, stage: str, durations: dict[str, float]) -> Outcome | None:
    """One kill after `stage` or a later one began; None where all have run already."""
    number, victim, share = draw.choice(SIGNALS), draw.choice(VICTIMS), draw.random()
    repro = Repro(root, root.with_suffix(".log"))
    if (began := repro.reaches(stage)) is None:
        return None if repro.process.poll() == 0 else Outcome(stage, False, _last_lines(repro.log), f"{ROW} {stage}")
    time.sleep(delay := share * durations[began])
    running = repro.stage()
    where = running[0] if running else BETWEEN
    with suppress(psutil.Error, ProcessLookupError):
        if victim == "all processes":
            os.killpg(repro.process.pid, number)
        elif running and victim == "the stage":
            running[1].send_signal(number)
        else:
            repro.process.send_signal(number)
    problems = repro.end()
    if "Traceback" in (text := repro.log.read_text(encoding="utf-8", errors="replace")):
        problems.append(f"a traceback: {text[text.rindex('Traceback') :][-300:]!r}")
    name = f"{number.name} to {victim} {delay:.2f} s after {began} began"
    return Outcome(name, not problems, "; ".join(problems), row=f"{ROW} {where}")


def _last_lines(log: Path) -> str:
    return " / ".join(log.read_text(encoding="utf-8", errors="replace").rstrip().splitlines()[-4:])
