"""Whether replayed steps learn what the same steps do when each is launched anew."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import rates
from benchmarks.configs import changed, paper_config
from benchmarks.harness import quiet
from benchmarks.synthetic import synthetic_store
from pipeline.config import Config
from pipeline.data.store import Store
from pipeline.run.checkpoint import LAST
from pipeline.run.fit import STEPS_PER_CALL, fit

# All of them change the rate at every step, the third the images' size as well: what a recording must not keep. The limit
# is a share of the way that the weights go. On a CPU, convolutions that add in another order, as a device may choose in
# one of two trainings, turn them aside by 0.014, 0.14 and 0.018 of it; a rate that stays as recorded by 0.39, 0.54, 0.40.
RECIPES: dict[str, tuple[dict[str, Any], float]] = {
    "one cycle": ({}, 0.08),
    "muon": ({"muon_lr": 0.02}, 0.27),
    "small images": ({"small_side": 20, "small_fraction": 0.5}, 0.08),
}


def replay(
    device: torch.device, work: Path, depth: int = 20, images: int = 12_800, batch_size: int = 128, steps: int = 12
) -> tuple[dict[str, Any], bool]:
    """How far weights after `steps` are from those of plain steps, as a share of the way from the first ones.

    ok: no recipe's are further than its limit. On a CPU no step is recorded and both are the same. After more steps rounding
    alone would turn them aside as far as a mistake does.
    """
    store = synthetic_store(work / "store", images=images, num_val=images // 10)
    schedule = {"max_steps": steps, "lr": 0.01, "schedule": "one_cycle", "warmup_fraction": 0.9}
    config = changed(
        paper_config(store, work, depth),
        recipe={"precision": "fp32", "batch_size": batch_size, **schedule},
        trainer={"accelerator": rates.accelerator(device), "compile": False, "log_every_steps": STEPS_PER_CALL},
    )
    found = {}
    for name, (recipe, limit) in RECIPES.items():
        found[name] = {"aside": aside(changed(config, recipe=recipe), store, work / name), "limit": limit}
    return {"recipes": found}, all(one["aside"] <= one["limit"] for one in found.values())


def aside(config: Config, store: Store, work: Path) -> float:
    """The distance between both trainings' last weights, over the way that the plain one's have gone."""
    torch.manual_seed(config.seed)
    start = dict(rates.new_net(config, store).named_parameters())
    plain, replayed = (
        _weights(changed(config, paths={"runs": str(work / str(count))}, trainer={"steps_per_call": count}), store)
        for count in (1, STEPS_PER_CALL)
    )
    apart = [(replayed[name] - plain[name]).norm() for name in start]
    way = [(plain[name] - first.detach()).norm() for name, first in start.items()]
    return float(torch.stack(apart).norm() / torch.stack(way).norm())


def _weights(config: Config, store: Store) -> dict[str, Tensor]:
    """The net's last weights, on the CPU."""
    with quiet():
        folder = Path(fit(config, store.path, track=False).folder)
    state = torch.load(folder / LAST, map_location="cpu", weights_only=True)["state_dict"]
    return {name.removeprefix("model."): value for name, value in state.items()}
