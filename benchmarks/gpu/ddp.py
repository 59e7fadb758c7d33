"""Several GPUs on one machine: the same training on one rank and on all of them.

Run as a module it is one rank, in the environment that torchrun makes: `... -m benchmarks.gpu.ddp JOB`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from benchmarks import rates
from benchmarks.configs import changed, paper_config
from benchmarks.harness import quiet
from benchmarks.synthetic import synthetic_store
from pipeline.atomic import read_json, write_json
from pipeline.data.store import open_store
from pipeline.run.fit import fit
from pipeline.tracking import journal

MODULE = "benchmarks.gpu.ddp"
LOSS_TOLERANCE = 0.02  # of the first window's mean loss, relative; rounding grows from step to step
PATIENCE_S = 180.0  # of one training


def ddp(
    device: torch.device,
    work: Path,
    ranks: int | None = None,
    depth: int = 20,
    images: int = 50_000,
    batch_size: int = 128,
    steps: int = 160,
) -> tuple[dict[str, Any], bool | None]:
    """Speed of all ranks over one rank's for the same global batch, and whether both learn the same at first.

    Args:
        ranks: None for one a GPU.
        batch_size: images a rank.
    """
    ranks = ranks if ranks is not None else torch.cuda.device_count() if device.type == "cuda" else 1
    if ranks < 2:
        return {"reason": f"needs two GPUs or more, found {torch.cuda.device_count()}"}, None
    store = synthetic_store(work / "store", images=images, num_val=images // 10)
    job: dict[str, Any] = {
        "store": str(store.path),
        "accelerator": rates.accelerator(device),
        "depth": depth,
        "batch_size": batch_size * ranks,
        "steps": steps,
    }
    one, all_ranks = (_train(job | {"ranks": count}, work / f"ranks-{count}") for count in (1, ranks))
    apart = abs(all_ranks["loss"] - one["loss"]) / abs(one["loss"])
    values = {
        "ranks": ranks,
        "global_batch": job["batch_size"],
        "images_per_s": {"one": one["rate"] * job["batch_size"], "all": all_ranks["rate"] * job["batch_size"]},
        "speedup": all_ranks["rate"] / one["rate"],
        "steps": all_ranks["steps"],
        "first_loss_difference": apart,
    }
    return values, all_ranks["steps"] == steps and apart <= LOSS_TOLERANCE


def _train(job: dict[str, Any], work: Path) -> dict[str, float]:
    """steps, rate (steps a second) and loss (mean of the first window) of a training on job["ranks"] ranks."""
    write_json(work / "job.json", {**job, "work": str(work)})
    _run(
        ["torch.distributed.run", "--standalone", f"--nproc-per-node={job['ranks']}", "-m", MODULE, f"{work}/job.json"]
    )
    (folder,) = (path.parent for path in (work / "runs").glob(f"*/{journal.NAME}"))
    events, _ = journal.read(folder / journal.NAME)
    entries = [event for event in events if "train/loss" in event.get("values", ())]
    return {
        "steps": entries[-1]["step"],
        "rate": rates.journal_rate(folder),
        "loss": entries[0]["values"]["train/loss"],
    }


def _run(module: list[str]) -> None:
    """A Python module with its arguments, in a session of its own: what is late is ended with all its ranks.

    Raises:
        ValueError: it failed, with the end of what it said.
        subprocess.TimeoutExpired: it was late.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", *module],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=PATIENCE_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode:
        raise ValueError(f"the ranks ended with exit code {process.returncode}:\n{said[-4000:]}")


def rank(job: dict[str, Any]) -> None:
    """One rank's part of a training."""
    store = open_store(job["store"])
    config = changed(
        paper_config(store, Path(job["work"]) / "runs", job["depth"]),
        recipe={"max_steps": job["steps"], "batch_size": job["batch_size"]},
        trainer={
            "accelerator": job["accelerator"],
            "compile": False,
            "devices": job["ranks"],
            "log_every_steps": max(1, job["steps"] // 8),
        },
    )
    with quiet():
        fit(config, store.path, track=False)


if __name__ == "__main__":
    rank(read_json(sys.argv[1]))
