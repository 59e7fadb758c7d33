"""Two one-thread ranks against one process of two threads, the same global batch.

Run as a module it is the first rank of one training: `python -m benchmarks.ranks JOB`. Lightning starts the others.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks import rates
from benchmarks.bench import Bench
from benchmarks.configs import changed, paper_config
from benchmarks.harness import Measured, Row, quiet
from benchmarks.training import title
from pipeline.atomic import read_json, write_json
from pipeline.data.store import open_store
from pipeline.run.fit import fit
from pipeline.tracking import journal

KEPT = 0.9  # share of one process's speed that two ranks must keep
PATIENCE_S = 300.0  # of one training


def section(bench: Bench, depth: int = 20, batch_size: int = 128, steps: int | None = None) -> list[Measured]:
    """Step rates of trainings in processes of their own, on the CPU; start-up is not in them."""
    config = changed(
        paper_config(bench.store, bench.folder("ranks"), depth),
        recipe={"batch_size": batch_size},
        trainer={"accelerator": "cpu"},
    )
    if steps is None:
        steps = rates.lasting(config, bench.store, torch.device("cpu"), bench.effort.seconds).recipe.max_steps
    job = {"store": str(bench.store.path), "depth": depth, "batch_size": batch_size, "steps": steps}

    row = Row(
        name=f"two one-thread ranks against two threads, {title(config)}, batch {batch_size}",
        unit="steps/s",
        bar=KEPT,
        ours=lambda: rate_of({**job, "ranks": 2, "threads": 1}),
        reference=lambda: rate_of({**job, "ranks": 1, "threads": 2}),
        pairs=max(1, bench.effort.pairs // 2),
    )
    return [bench.measure(row)]


def rate_of(job: dict[str, Any]) -> float:
    """Steps a second of a training in job["ranks"] processes.

    Raises:
        ValueError: a rank failed; with the end of what it said.
        subprocess.TimeoutExpired: it was late.
    """
    with TemporaryDirectory() as folder:
        runs = Path(folder) / "runs"
        write_json(Path(folder) / "job.json", {**job, "runs": str(runs)})
        _run([sys.executable, "-m", "benchmarks.ranks", f"{folder}/job.json"])
        (found,) = runs.glob(f"*/{journal.NAME}")
        return rates.journal_rate(found.parent)


def _run(command: list[str]) -> None:
    """In a session of its own: what is late is ended with all its ranks."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise ValueError(f"the ranks ended with exit code {process.returncode}:\n{said[-4000:]}")


def train(job: dict[str, Any]) -> None:
    """One rank's part of a training."""
    store = open_store(job["store"])
    config = changed(
        paper_config(store, Path(job["runs"]), job["depth"]),
        recipe={"max_steps": job["steps"], "batch_size": job["batch_size"]},
        trainer={
            "accelerator": "cpu",
            "devices": job["ranks"],
            "threads": job["threads"],
            "compile": False,
            "log_every_steps": min(50, max(1, job["steps"] // rates.WARM_UP)),
        },
    )
    with quiet():
        fit(config, store.path, track=False)


if __name__ == "__main__":
    train(read_json(Path(sys.argv[1])))
