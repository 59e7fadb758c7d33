"""Training ResNet-20 on a GPU as `fit` does it: its speed against a bare loop, and a run that is cut off."""

from __future__ import annotations

import signal
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import rates
from benchmarks.configs import changed, paper_config
from benchmarks.harness import measure, quiet
from benchmarks.synthetic import synthetic_store
from benchmarks.training import step_row
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.run.fit import fit
from pipeline.run.recorder import Validated
from pipeline.run.stop import Interrupted
from pipeline.tracking import journal


def train(
    device: torch.device,
    work: Path,
    depth: int = 20,
    images: int = 50_000,
    batch_size: int = 128,
    pairs: int = 3,
    seconds: float = 5.0,
) -> tuple[dict[str, Any], bool]:
    """Steps a second in bf16 against a bare loop, and whether an interrupted run ends like an undisturbed one.

    ok is about the interrupted run alone; values.rate.holds says whether the speed reaches its bar.
    """
    store = synthetic_store(work / "store", images=images, num_val=images // 10)
    config = changed(
        paper_config(store, work / "runs", depth),
        recipe={"precision": "bf16", "batch_size": batch_size},
        trainer={"accelerator": rates.accelerator(device), "compile": False},
    )
    timed = rates.lasting(config, store, device, seconds)
    rate = measure(step_row(timed, store, device), pairs, lambda line: print(line, flush=True))
    resumed, ok = resume(config, store, work)
    return {"rate": asdict(rate), "resume": resumed}, ok


def resume(config: Config, store: Store, work: Path) -> tuple[dict[str, Any], bool]:
    """A run that gets SIGTERM at its first validation and is called again, beside one that gets none.

    Both must end at the same step and have written down the same steps, none of them twice.
    """
    epoch = len(store.split_indices("holdout")[0]) // config.recipe.batch_size
    config = changed(
        config,
        data={"split": "holdout"},
        recipe={"max_steps": epoch + epoch // 2 + 1},
        trainer={"log_every_steps": max(1, epoch // 8)},
    )
    cut, whole = (changed(config, paths={"runs": str(work / name)}) for name in ("cut", "whole"))

    def cut_off(_: Validated) -> None:
        signal.raise_signal(signal.SIGTERM)

    interrupted = False
    with quiet():
        try:
            fit(cut, store.path, report=cut_off, track=False)
        except Interrupted:
            interrupted = True
        result, undisturbed = (fit(c, store.path, track=False) for c in (cut, whole))
    steps = [logged_steps(Path(run.folder)) for run in (result, undisturbed)]
    values = {
        "interrupted_at": epoch if interrupted else None,
        "steps": result.steps,
        "steps_undisturbed": undisturbed.steps,
        "same_entries": steps[0] == steps[1],
    }
    return values, interrupted and result.steps == undisturbed.steps == config.recipe.max_steps and steps[0] == steps[1]


def logged_steps(folder: Path) -> list[int]:
    """Steps of the entries about training in a run's journal, in the order of writing."""
    events, _ = journal.read(folder / journal.NAME)
    return [event["step"] for event in events if "train/loss" in event.get("values", ())]
