"""A full disk, a read-only folder, too little memory, a clock that is set back, in each stage."""

from __future__ import annotations

import json
import random
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from importlib import import_module
from pathlib import Path

from reliability import Outcome, mounts
from reliability.child import Ended, call, pipeline
from reliability.kills import Repro
from reliability.workspace import STAGES, copy_of_repository, remove_made, results, untidy

PROMISE = (
    "one sentence with the remedy and exit 74 (2 where trials of a sweep failed), or no effect; then the same command ends as "
    "undisturbed"
)
OK, USER_ERROR, MACHINE, INTERRUPTED = 0, 2, 74, 75
DISK = 256 * 2**20
COMMAND_S = 300.0
FULL, READ_ONLY, MEMORY, CLOCK = 30, 6, 10, 6
DATABASE = "train, with MLflow's database to be made"


def campaign(seed: int, scratch: Path) -> Iterator[Outcome]:
    draw = random.Random(seed)
    for stage in STAGES:
        import_module(f"pipeline.stages.{stage}")
    import_module("mlflow.store.tracking.sqlalchemy_store")
    done = copy_of_repository(scratch / "done")
    repro = Repro(done, scratch / "done.log")
    repro.process.wait()
    repro.end()
    expected = results(done)
    places = (*STAGES, DATABASE)
    written = {place: _apart(scratch, partial(_bytes_written, place=place)) for place in places}
    for at in range(FULL):
        place, share = places[at % len(places)], draw.random() * 1.1
        left = int(share * int(written[place]))
        yield _fault(f"{left:,} bytes free in {place}", "full disk", scratch, expected, _full(place, left))
    for at in range(READ_ONLY):
        place = places[at % len(places)]
        yield _fault(f"read-only in {place}", "read-only workspace", scratch, expected, _read_only(place))
    alone = [stage for stage in STAGES if stage != "sweep"]
    for at in range(MEMORY):
        stage, memory = alone[at % len(alone)], int(2 ** draw.uniform(18, 29))
        name = f"{memory:,} bytes of memory in {stage}"
        yield _fault(name, "too little memory", scratch, expected, _short_of_memory(stage, memory))
    for _ in range(CLOCK):
        hours, step_s = draw.choice([-48, -2, -0.1, 5]), draw.uniform(1, 4)
        name = f"clock moved by {hours} h after {step_s:.1f} s"
        yield _fault(name, "clock set", scratch, expected, _clock_set(hours, step_s))


def _fault(
    name: str, row: str, scratch: Path, expected: object, fault: Callable[[Path], tuple[str, list[str]]]
) -> Outcome:
    """Runs a fault and its remedy in a copy of the finished experiment, on a disk of its own."""

    def inside(root: Path) -> str:
        stage, problems = fault(root)
        if (again := _stage(root, stage)).code != OK:
            problems.append(f"afterwards {stage} ends with {again.summary()}")
        else:
            if (synced := pipeline("sync", cwd=root, timeout_s=COMMAND_S)).code != OK:
                problems.append(f"afterwards sync ends with {synced.summary()}")
            if stage in ("sweep", "train"):  # what they made anew is equal, since seeds decide it
                for later in ("ensemble", "evaluate"):
                    _stage(root, later)
            if results(root) != expected:
                problems.append("afterwards the outputs differ")
            problems += untidy(root)
        return json.dumps(problems)

    try:
        problems = json.loads(_apart(scratch, inside))
    except (ValueError, RuntimeError) as error:
        problems = [f"the case itself: {error}"]
    return Outcome(name, not problems, "; ".join(problems), row)


def _apart(scratch: Path, inside: Callable[[Path], object]) -> str:
    """The last line of what `inside` returns, from a child whose workspace is a copy on a small disk of its own."""

    def work() -> int:
        mounts.own_mounts()
        root = scratch / "disk"
        mounts.mount(root, DISK)
        ignored = shutil.ignore_patterns(".git", ".dvc", "pipeline")  # the code is that of this process
        shutil.copytree(scratch / "done", root / "w", symlinks=True, ignore=ignored)
        subprocess.run(["git", "init", "-q"], cwd=root / "w", check=True)
        print(inside(root / "w"))
        return 0

    ended = call(work, cwd=scratch, timeout_s=4 * COMMAND_S)
    if ended.code:
        raise RuntimeError(ended.output[-1500:])
    return ended.last_line


def _stage(root: Path, stage: str, memory: int = 0) -> Ended:
    words = [] if stage == "compose" else ["--config", "composed.yaml"]
    return pipeline(stage, *words, cwd=root, timeout_s=COMMAND_S, memory=memory)


def _remove_made(root: Path, place: str) -> str:
    """Removes what the stage of `place` made; returns the stage."""
    if place == DATABASE:
        shutil.rmtree(root / "mlruns")
    stage = "train" if place == DATABASE else place
    remove_made(root, stage)
    return stage


def _bytes_written(root: Path, place: str) -> int:
    stage, before = _remove_made(root, place), mounts.free_bytes(root)
    ended = _stage(root, stage)
    if ended.code:
        raise RuntimeError(ended.output[-500:])
    return before - mounts.free_bytes(root)


def _full(place: str, left: int) -> Callable[[Path], tuple[str, list[str]]]:
    def fault(root: Path) -> tuple[str, list[str]]:
        stage = _remove_made(root, place)
        filler = mounts.fill(root.parent, left)
        ended = _stage(root, stage)
        filler.unlink()
        return stage, _judged(ended)

    return fault


def _read_only(place: str) -> Callable[[Path], tuple[str, list[str]]]:
    def fault(root: Path) -> tuple[str, list[str]]:
        stage = _remove_made(root, place)
        mounts.set_read_only(root.parent, True)
        ended = _stage(root, stage)
        mounts.set_read_only(root.parent, False)
        return stage, _judged(ended)

    return fault


def _short_of_memory(stage: str, memory: int) -> Callable[[Path], tuple[str, list[str]]]:
    def fault(root: Path) -> tuple[str, list[str]]:
        _remove_made(root, stage)
        return stage, _judged(_stage(root, stage, memory))

    return fault


def _judged(ended: Ended) -> list[str]:
    if ended.code == OK or (ended.refused((MACHINE,)) and "; " in ended.last_line):  # what failed; what to do
        return []
    # Ray prints the trials' errors itself, and tells the driver their words alone, so that none counts as the machine's.
    if ended.code == USER_ERROR and " trials failed " in ended.last_line:
        return []
    traceback = ended.output[ended.output.find("Traceback") :][-300:] if "Traceback" in ended.output else ""
    return [f"{ended.summary()} {traceback!r}"]


def _clock_set(hours: float, after_s: float) -> Callable[[Path], tuple[str, list[str]]]:
    """A training that the clock's change meets, is stopped, and goes on with the new time."""

    def fault(root: Path) -> tuple[str, list[str]]:
        _remove_made(root, "train")
        since = time.monotonic()

        def train() -> int:
            real = time.time
            time.time = lambda: real() + (3600 * hours if time.monotonic() - since > after_s else 0)
            signal.setitimer(signal.ITIMER_REAL, after_s + 2)
            signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
            return _in_process("train")

        ended = call(train, cwd=root, timeout_s=COMMAND_S)
        # A training that is just over dies of SIGTERM like any process.
        stopped = ended.code in (OK, INTERRUPTED, -signal.SIGTERM) and "Traceback" not in ended.output
        problems = [] if stopped else [ended.summary()]
        with _moved(hours):
            if (again := _stage(root, "train")).code != OK:
                problems.append(f"with the new time: {again.summary()}")
        return "train", [*problems, *_backwards(root / "mlruns" / "mlflow.db")]

    return fault


def _in_process(stage: str) -> int:
    from pipeline.cli import main

    return main([stage, "--config", "composed.yaml"])


@contextmanager
def _moved(hours: float) -> Iterator[None]:
    """Children forked within see the moved time."""
    real = time.time
    time.time = lambda: real() + 3600 * hours
    try:
        yield
    finally:
        time.time = real


def _backwards(database: Path) -> list[str]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        rows = connection.execute("select name, end_time - start_time from runs where end_time < start_time").fetchall()
    return [f"run {name} lasted {duration} ms" for name, duration in rows]
