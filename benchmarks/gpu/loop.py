"""ResNet-20's training on a GPU against the bare loop captured as a CUDA graph; what the loop around a step costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from benchmarks import rates
from benchmarks.configs import changed, paper_config
from benchmarks.gpu.bare import graphed_rate
from benchmarks.gpu.variants import BOTH, by_variant
from benchmarks.harness import Measured, Row, measure, quiet
from benchmarks.loop import loop_row, net_of_nothing
from benchmarks.synthetic import synthetic_store
from benchmarks.training import title
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.learn.training.classifier import Classifier
from pipeline.run.fit import STEPS_PER_CALL

KEPT = 0.9  # share of the captured loop's speed that training must keep


def loop(
    device: torch.device,
    work: Path,
    depth: int = 20,
    images: int = 50_000,
    batch_size: int = 128,
    steps: int = 4_000,
    pairs: int = 3,
    compiled: Sequence[bool] = BOTH,
) -> tuple[dict[str, Any], bool]:
    """Steps a second through `fit` against replays alone, plain and compiled; microseconds that `fit` adds to a step.

    ok: all of them ran, and no step waits for the device; whether the bars are reached is in values.

    Args:
        steps: of each run, within one epoch, which is made long enough by naming images several times.
    """
    epoch = images // batch_size
    store = synthetic_store(work / "store", images=images, num_val=images // 10, repeats=-(-steps // epoch))
    config = changed(
        paper_config(store, work / "runs", depth),
        recipe={"precision": "bf16", "batch_size": batch_size, "max_steps": steps},
        trainer={"accelerator": rates.accelerator(device), "log_every_steps": min(50, steps // rates.WARM_UP)},
    )
    rates_found, ok = by_variant(
        compiled, lambda one: asdict(told(graphed_row(changed(config, trainer={"compile": one}), store, device), pairs))
    )
    with net_of_nothing():
        small = changed(config, recipe={"precision": "fp32"}, trainer={"compile": False})
        added = {
            str(per_call): asdict(told(loop_row(small, store, device, per_call), pairs))
            for per_call in (1, STEPS_PER_CALL)
        }
    values: dict[str, Any] = {"rate": rates_found, "step_us_by_steps_per_call": added}
    if device.type == "cuda":
        values["waits"] = waits(changed(config, recipe={"max_steps": 200}, trainer={"compile": False}), store)
        ok = ok and values["waits"] is None
    return values, ok


def waits(config: Config, store: Store) -> str | None:
    """What in a call of `training_step` keeps the host waiting for the device, once steps are recorded; None for nothing."""
    whole = Classifier.training_step

    @wraps(whole)  # Lightning looks at the signature
    def watched(self: Classifier, dataloader_iter: Any) -> None:
        recorded = self.global_step >= config.trainer.log_every_steps
        torch.cuda.set_sync_debug_mode("error" if recorded else "default")
        try:
            whole(self, dataloader_iter)
        finally:
            torch.cuda.set_sync_debug_mode("default")

    try:
        with quiet(), patch.object(Classifier, "training_step", watched):
            rates.fit_rate(config, store.path)
    except RuntimeError as error:
        return str(error)
    return None


def graphed_row(config: Config, store: Store, device: torch.device, bar: float = KEPT) -> Row:
    return Row(
        name=f"{title(config)}, batch {config.recipe.batch_size}, against the captured loop",
        unit="steps/s",
        bar=bar,
        ours=lambda: rates.fit_rate(config, store.path),
        reference=lambda: graphed_rate(config, store, device),
    )


def told(row: Row, pairs: int) -> Measured:
    return measure(row, pairs, lambda line: print(line, flush=True))
