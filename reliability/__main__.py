"""`python -m reliability [CAMPAIGN ...] [--seed N] [--jobs N]`: tries every promise, writes docs/reliability.md's table.

Campaigns run side by side in processes of their own. The table keeps the rows of campaigns that do not run.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.progress import progress
from reliability import Outcome
from reliability.table import Row, write_rows

# The longest first, so that the last ones keep all cores busy.
CAMPAIGNS: tuple[str, ...] = (
    "kills",
    "fuzz",
    "machine",
    "secrets",
    "serving",
    "tracking",
    "config",
    "files",
    "images",
    "archives",
    "http",
    "weights",
)
ROOT = Path(__file__).resolve().parents[1]
SHOWN = 5  # failures of a row that the terminal lists


def main() -> int:
    """Exit status: 0 where all ended as promised, 1 where some did not, 2 for a campaign that does not exist."""
    parser = argparse.ArgumentParser(prog="python -m reliability", description="Faults and bad input against promises.")
    parser.add_argument("campaign", nargs="*", help=f"of {', '.join(CAMPAIGNS)}; default: all")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="decides every fault; default: a new one")
    parser.add_argument("--jobs", type=int, default=2, help="campaigns side by side")
    parser.add_argument("--outcomes", type=Path, help=argparse.SUPPRESS)  # of one campaign, as JSON lines
    options = parser.parse_args()
    names = options.campaign or list(CAMPAIGNS)
    if unknown := [name for name in names if name not in CAMPAIGNS]:
        parser.error(f"{unknown[0]} is no campaign; choose from {', '.join(CAMPAIGNS)}")
    if "fuzz" in names and not find_spec("atheris"):
        print("fuzz is left out: atheris is missing, which the lock has for Linux on x86-64 and Python below 3.14")
        names.remove("fuzz")
    if options.outcomes:
        _run_here(names[0], options.seed, options.outcomes)
        return 0
    # Shells let background jobs ignore it, and all processes that a campaign interrupts would do so, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    print(f"seed {options.seed}: `python -m reliability --seed {options.seed}` makes the same faults again")
    with ThreadPoolExecutor(options.jobs) as pool, progress("reliability", len(names), "campaigns") as bar:
        jobs = {pool.submit(_run_apart, name, options.seed): name for name in names}
        kept = True
        for job in as_completed(jobs):
            rows = job.result()
            write_rows(ROOT / "docs" / "reliability.md", rows, CAMPAIGNS)  # at once: an interruption keeps them
            kept &= all(row.kept == row.tried for row in rows)
            bar.advance()
            for row in rows:
                bar.note(f"{row.fault}: {row.kept} of {row.tried} as promised, {row.seconds:.0f} s")
                for line in row.failures[:SHOWN]:
                    bar.note(f"    {line}")
    return int(not kept)


def _run_here(name: str, seed: int, out: Path) -> None:
    """Runs a campaign in this process; each outcome is on disk at once, so that a crash keeps those before it."""
    module: Any = import_module(f"reliability.{name}")
    with TemporaryDirectory(prefix=f"reliability-{name}-") as scratch, out.open("a", encoding="utf-8") as stream:
        for outcome in module.campaign(seed, Path(scratch)):
            stream.write(json.dumps(asdict(outcome)) + "\n")
            stream.flush()


def _run_apart(name: str, seed: int) -> list[Row]:
    module, start = import_module(f"reliability.{name}"), time.monotonic()
    with TemporaryDirectory(prefix="reliability-") as folder:
        out = Path(folder) / "outcomes"
        command = [sys.executable, "-m", "reliability", name, "--seed", str(seed), "--outcomes", str(out)]
        # Campaigns share the cores: a second thread would wait for its core at each step of these small nets.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        ended = subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        outcomes = list(_read(out)) if out.exists() else []
    if ended.returncode:
        last = (ended.stdout.rstrip().splitlines() or [""])[-1]
        outcomes.append(Outcome("the campaign itself", False, f"exit {ended.returncode}: {last}"))
    return rows_of(name, module, outcomes, seed, time.monotonic() - start)


def _read(path: Path) -> Iterator[Outcome]:
    for line in path.read_text(encoding="utf-8").splitlines():
        yield Outcome(**json.loads(line))


def rows_of(name: str, module: Any, outcomes: list[Outcome], seed: int, seconds: float) -> list[Row]:
    """A row of the table for each `Outcome.row`, or one for all."""
    title = (module.__doc__ or name).strip().splitlines()[0].rstrip(".")
    rows = []
    for row in dict.fromkeys(outcome.row for outcome in outcomes):
        own = [outcome for outcome in outcomes if outcome.row == row]
        failures = tuple(f"{outcome.name}: {outcome.detail}" for outcome in own if not outcome.ok)
        share = seconds * len(own) / len(outcomes)
        promise = module.PROMISE if isinstance(module.PROMISE, str) else module.PROMISE.get(row, "")
        rows.append(Row(name, row or title, promise, len(own), len(own) - len(failures), seed, share, failures))
    return rows


if __name__ == "__main__":
    sys.exit(main())
