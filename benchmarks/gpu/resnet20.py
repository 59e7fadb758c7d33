"""ResNet-20's 64k steps of Sec. 4.2 on a GPU: how long they take, and the error on real images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from benchmarks import rates
from benchmarks.configs import changed, paper_config
from benchmarks.gpu.variants import BOTH, by_variant
from benchmarks.harness import quiet
from benchmarks.synthetic import synthetic_store
from pipeline.config import Config
from pipeline.data.store import Store, open_store
from pipeline.ensemble.predictions import all_images, probabilities
from pipeline.evaluation.errors import top_k_error
from pipeline.run.checkpoint import BEST
from pipeline.run.fit import fit

BAR_S = 150.0  # for all steps on one H100
PAPER_ERR1 = 0.0875  # Table 6
PATIENCE_S = 300.0  # longer trainings are not run unless asked for: a part has 8 minutes


def resnet20(
    device: torch.device,
    work: Path,
    data: Path | None = None,
    full: bool = False,
    depth: int = 20,
    images: int = 50_000,
    batch_size: int = 128,
    steps: int = 64_000,
    sample: int = 3_500,
    compiled: Sequence[bool] = BOTH,
) -> tuple[dict[str, Any], bool | None]:
    """Seconds of the whole training, from a sample of its steps and, where that is not too long, from all of them.

    ok: whether it stays below the bar, with start-up, compiling and validation where all steps were made; None on a CPU.

    Args:
        data: CIFAR-10's store, as preprocess makes it; None for noise, which has no test error.
        full: all steps, however long they take.
    """
    config, store = resnet20_config(device, work, depth, 32, images, batch_size, data)
    config = changed(config, trainer={"log_every_steps": min(50, sample // rates.WARM_UP)})
    sampled = changed(config, recipe={"max_steps": sample})

    def measured(one: bool) -> dict[str, Any]:
        with quiet():
            return {"steps_per_s": rates.fit_rate(changed(sampled, trainer={"compile": one}), store.path)}

    found, sampled_all = by_variant(compiled, measured)
    rate = {name: one["steps_per_s"] for name, one in found.items() if "error" not in one}
    if not rate:
        return {**found}, False
    fastest = max(rate, key=lambda name: rate[name])
    values: dict[str, Any] = {**found, "extrapolated_s": steps / rate[fastest], "bar_s": BAR_S}
    if full or values["extrapolated_s"] < PATIENCE_S:
        schedule = {"max_steps": steps, "milestones": [steps // 2, steps * 3 // 4]}
        values |= whole(changed(config, recipe=schedule, trainer={"compile": fastest == "compiled"}), store, device)
    seconds = values.get("seconds", values["extrapolated_s"])
    return values, sampled_all and (seconds < BAR_S if device.type == "cuda" else None)


def whole(config: Config, store: Store, device: torch.device) -> dict[str, Any]:
    """The training to its end; the test error of its last weights where there are test images."""
    with quiet():
        result = fit(config, store.path, track=False)
    values: dict[str, Any] = {"seconds": result.seconds, "result": asdict(result)}
    if store.manifest.counts["test"]:
        images = all_images("test", store, store.test())
        with quiet():
            found = probabilities(Path(result.folder) / BEST, images, Path(config.paths.runs) / "predictions", device)
        values |= {"test_err1": top_k_error(found, images.labels, 1), "paper_err1": PAPER_ERR1}
    return values


def resnet20_config(
    device: torch.device, work: Path, depth: int, side: int, images: int, batch_size: int, data: Path | None = None
) -> tuple[Config, Store]:
    """Its training on all images of a store, or on noise."""
    store = (
        open_store(data) if data else synthetic_store(work / "store", side=side, images=images, num_val=images // 10)
    )
    config = changed(
        paper_config(store, work / "runs", depth),
        recipe={"precision": "bf16", "batch_size": batch_size},
        trainer={"accelerator": rates.accelerator(device)},
    )
    return config, store
