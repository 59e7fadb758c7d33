"""`python -m benchmarks.scale [--trials N] [--cpus N] [--seconds S] [--every S] [--server] [--record]`: a sweep of simulated trials.

A trial sleeps where training would compute; everything around it is real: composing, keys, claims, journals, MLflow,
reports to Ray Tune, trials.json, the leaderboard. Ray is told of more CPUs than there are, since trials need none. Prints
what the sweep takes above the least time, how the driver's memory grows with trials, and what MLflow has to do. With
--record only trials.json of so many trials is written and read, with 20 reports each.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import psutil

from benchmarks.commands import workspace
from benchmarks.servers import free_port, mlflow_server, postgres_server
from benchmarks.synthetic import synthetic_store

ROOT = Path(__file__).resolve().parents[1]
OVERRIDES = (
    *("data=digits", "model.depth=8", "trainer.accelerator=cpu", "trainer.threads=1", "trainer.compile=false"),
    *("tracking.system_metrics_every_s=0", "sweep.reduction_factor=0", "cluster.cpus_per_trial=1"),
    "sweep.space={recipe.lr:{loguniform:[0.01,1.0]}}",
)
REPEATS = 10
PERIOD_S = 2.0  # between looks at the driver's memory


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--cpus", type=int, default=16, help="that Ray is told of")
    parser.add_argument("--seconds", type=float, default=10.0, help="that a trial takes")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between a trial's reports")
    parser.add_argument("--server", action="store_true", help="MLflow as a server over PostgreSQL; default: SQLite")
    parser.add_argument("--record", action="store_true", help="measure trials.json alone")
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)  # the workspace in which this is the driver
    options = parser.parse_args()
    if options.record:
        record(options.trials)
    elif options.drive:
        drive(options.drive, options.trials, options.seconds, options.every)
    else:
        measure(options)


def measure(options: argparse.Namespace) -> None:
    with TemporaryDirectory(prefix="scale-") as folder, ExitStack() as open_:
        root = workspace(
            Path(folder), "digits", synthetic_store(Path(folder) / "images", side=8, images=1800, num_val=360).path
        )
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        environment = {**os.environ, **token, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        if options.server:
            environment["MLFLOW_TRACKING_URI"] = open_.enter_context(_server(Path(folder)))
        environment["RAY_ADDRESS"] = open_.enter_context(_cluster(Path(folder), options.cpus, environment))
        servers = [process for process in psutil.Process().children(recursive=True) if _is_server(process)]
        busy = _cpu_seconds(servers)
        words = [f"--trials={options.trials}", f"--seconds={options.seconds}", f"--every={options.every}"]
        command = [sys.executable, "-m", "benchmarks.scale", *words, f"--drive={root}"]
        start = time.monotonic()
        driver = subprocess.Popen(command, cwd=root, env=environment)
        with _watched(driver.pid, root) as seen:
            driver.wait()
        taken = time.monotonic() - start
        if driver.returncode:
            sys.exit(driver.returncode)
        least = math.ceil(options.trials / options.cpus) * options.seconds
        print(
            f"{options.trials} trials of {options.seconds:g} s on {options.cpus} CPUs: {taken:.0f} s, {least:.0f} s at least"
        )
        print(f"overhead {100 * (taken / least - 1):.1f} %, of it before the first trial {seen.first_s:.0f} s")
        print(f"driver: {seen.start_mb:.0f} MB at the first trial, {1000 * seen.growth_mb:.0f} kB more for each trial")
        if options.server:
            each = 1000 * (_cpu_seconds(servers) - busy) / options.trials
            print(f"MLflow and PostgreSQL: {each:.0f} ms of a core for each trial")
        print(f"`pipeline sweep status` of {options.trials} trials: {_status_s(root, environment):.2f} s")


def record(count: int) -> None:
    from pipeline.tuning.state import NAME, About, read
    from pipeline.tuning.trials import Trials

    with TemporaryDirectory(prefix="scale-") as name:
        folder, points = Path(name), [{"recipe.lr": number / count} for number in range(1, count + 1)]
        trials = Trials(folder, points, folder, About(sweep="sweep-0", size=count, max_steps=64_000))
        for trial in trials.all:
            trial.key, trial.name, trial.host = "0123456789ab", f"lr {trial.point['recipe.lr']:g}", "gpu-node-0001"
            trial.reports = [(epoch, 1 / epoch) for epoch in range(1, 21)]
        trials.open({})
        start = time.monotonic()
        for point in points[:REPEATS]:
            trials.end(point)
        written, start = (time.monotonic() - start) / REPEATS, time.monotonic()
        read(folder / NAME)
        size = (folder / NAME).stat().st_size / 1e6
        print(
            f"trials.json of {count:,} trials: {size:.1f} MB, written in {1000 * written:.0f} ms whenever a trial ends, ",
            end="",
        )
        print(f"read in {1000 * (time.monotonic() - start):.0f} ms")


def drive(root: Path, trials: int, seconds: float, every: float) -> None:
    """The sweep, in the workspace, with trials that train nothing."""
    from pipeline.cli import main as pipeline
    from pipeline.tuning import experiment

    experiment.run_trial = partial(simulated, seconds=seconds, every=every)
    tracking = ["tracking=server"] if "MLFLOW_TRACKING_URI" in os.environ else []
    sys.exit(pipeline(["sweep", *OVERRIDES, *tracking, f"sweep.num_samples={trials}"]))


def simulated(
    point: dict[str, Any],
    *,
    config: dict[str, Any],
    store: str,
    content_hash: str,
    tags: dict[str, str],
    stop: str,
    seconds: float,
    every: float,
) -> None:
    """As `pipeline.tuning.trial.run_trial`, with sleep in place of training."""
    from ray import tune

    from pipeline.config import from_dict
    from pipeline.tracking.location import PARENT_TAG
    from pipeline.tuning.space import chosen
    from pipeline.tuning.starting import turn
    from pipeline.tuning.trial import trial_config

    with turn():
        from pipeline.run.attempt import attempt_on
        from pipeline.run.claim import claimed
        from pipeline.run.run import identify
        from pipeline.run.weights import BEST

    begun, changed = time.monotonic(), trial_config(from_dict(config), chosen(point))
    run = identify(changed, Path(store), precision="fp32")
    steps = changed.recipe.max_steps
    with claimed(run.folder, tags[PARENT_TAG]) as claim, attempt_on(run, claim, tags) as attempt:
        assert attempt.journal is not None
        count = max(1, round(seconds / every))
        for number in range(1, count + 1):
            time.sleep(max(0.0, begun + number * seconds / count - time.monotonic()))
            attempt.step = step = number * steps // count
            error = 0.5 / number
            attempt.journal.metrics(step, {"train/loss": error, "val/loss": error, "val/err1": error})
            attempt.write("running")
            reported = {"epoch": number, "step": step, "key": run.key, "best/err1": error, "val/err1": error}
            tune.report({**reported, "val/err5": 0.0})
        net = replace(run.net, complete=True, step=steps, steps=steps, val_err1=error)
        (run.folder / BEST).touch()
        attempt.journal.end("FINISHED")
        attempt.write("finished", net)


@dataclass
class Seen:
    """Of the driver."""

    first_s: float = math.nan  # until the first trial has begun
    sizes: list[tuple[int, float]] = field(default_factory=list)  # trials that have ended, MB

    @property
    def start_mb(self) -> float:
        return self.sizes[0][1]

    @property
    def growth_mb(self) -> float:
        """A trial, over the second half: the first one fills caches."""
        half = self.sizes[len(self.sizes) // 2 :]
        (few, small), (many, large) = half[0], half[-1]
        return (large - small) / max(1, many - few)


@contextmanager
def _watched(pid: int, root: Path) -> Iterator[Seen]:
    seen, over, start = Seen(), Event(), time.monotonic()

    def look() -> None:
        process = psutil.Process(pid)
        while not over.wait(PERIOD_S):
            begun = list((root / "runs").glob("*/run.json"))
            if begun and math.isnan(seen.first_s):
                seen.first_s = time.monotonic() - start
            if begun:
                ended = sum(_has_ended(path) for path in (root / "runs").glob("sweep-*/trials.json"))
                seen.sizes.append((ended, process.memory_info().rss / 1e6))

    thread = Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


def _has_ended(path: Path) -> int:
    return sum(trial["status"] != "unfinished" for trial in json.loads(path.read_text(encoding="utf-8"))["trials"])


@contextmanager
def _server(folder: Path) -> Iterator[str]:
    """URI of an MLflow server over PostgreSQL."""
    import psycopg

    with postgres_server("mlflow") as database:
        where = f"mlflow:mlflow@127.0.0.1:{database}"
        with psycopg.connect(f"postgresql://{where}/postgres", autocommit=True) as connection:
            connection.execute("CREATE DATABASE mlflow")
        port = free_port()
        with mlflow_server("127.0.0.1", port, f"postgresql+psycopg://{where}/mlflow", folder):
            yield f"http://127.0.0.1:{port}"


@contextmanager
def _cluster(folder: Path, cpus: int, environment: dict[str, str]) -> Iterator[str]:
    """Address of a Ray head that counts so many CPUs."""
    port = free_port()
    options = [f"--port={port}", f"--num-cpus={cpus}", "--include-dashboard=false", "--object-store-memory=200000000"]
    log = (folder / "ray.txt").open("wb")
    ray = Path(sys.executable).with_name("ray")
    head = subprocess.Popen([ray, "start", "--head", *options, "--block"], env=environment, stdout=log, stderr=log)
    try:
        while b"--block" not in (folder / "ray.txt").read_bytes():
            if head.poll() is not None:
                raise RuntimeError(f"Ray does not start:\n{(folder / 'ray.txt').read_text(encoding='utf-8')}")
            time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        head.terminate()
        head.wait(60)
        log.close()


def _is_server(process: psutil.Process) -> bool:
    return any(word in " ".join(process.cmdline()) for word in ("mlflow", "postgres"))


def _cpu_seconds(processes: list[psutil.Process]) -> float:
    """Of the processes and of what they start meanwhile, a backend of PostgreSQL for each connection for example."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):  # its parent counts it from its end on
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _status_s(root: Path, environment: dict[str, str]) -> float:
    start = time.monotonic()
    command = [sys.executable, "-m", "pipeline", "sweep", "status", *OVERRIDES[:1]]
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - start


if __name__ == "__main__":
    main()
