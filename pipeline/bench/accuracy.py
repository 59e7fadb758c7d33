"""`python -m pipeline.bench.accuracy --data STORE [--seeds N] [--steps N]`: does the fast path learn as much?

The same net is trained for equal steps by `fit` and by the recipe common in public, both with the learning rates of
cifar_quick, and judged on the validation images. Each training is written down as it ends; the same command goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pipeline.atomic import read_json, write_json
from pipeline.bench.configs import changed, paper_config
from pipeline.bench.public_recipe import CommonRecipe
from pipeline.config import Config
from pipeline.data.store import Store, open_store
from pipeline.learn.input.module import EVAL_BATCH
from pipeline.learn.training.schedule import lr_at
from pipeline.progress import progress
from pipeline.run.fit import fit
from pipeline.tracking import journal

SIDES = ("ours", "common")


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 measured, 2 a store that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.accuracy", description="Error after equal steps.")
    parser.add_argument("--data", type=Path, metavar="STORE", required=True, help="a store that preprocess made")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--depth", type=int, default=20)
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("metrics/accuracy.json"))
    options = parser.parse_args(argv)
    try:
        found = measured(open_store(options.data), options.out, options.seeds, options.steps, options.depth)
    except (ValueError, FileNotFoundError) as error:
        print(f"accuracy: {error}", file=sys.stderr)
        return 2
    write_json(options.out, found)
    for side in SIDES:
        print(f"{side}: {found[side]['mean']:.2%} validation error, {found[side]['range']} over seeds")
    print(
        f"difference {found['difference']:+.2%}; inside the spread: {'yes' if found['holds'] else 'NO'} ({options.out})"
    )
    return 0


def measured(store: Store, out: Path, seeds: int, steps: int, depth: int = 20) -> dict[str, Any]:
    """Errors as fractions of the validation images, by side and seed; what is in `out` already is not trained again."""
    known = read_json(out)["trainings"] if out.exists() else []
    with TemporaryDirectory(prefix="accuracy-") as runs:
        for seed in range(seeds):
            for side in SIDES:
                what = {"side": side, "seed": seed, "steps": steps, "depth": depth, "data": store.manifest.content_hash}
                if any(what.items() <= training.items() for training in known):
                    continue
                config = quick_config(store, Path(runs), seed, steps, depth)
                start = time.monotonic()
                err1 = _ours(config, store) if side == "ours" else _common(config, store)
                known = [*known, {**what, "err1": err1, "seconds": time.monotonic() - start}]
                write_json(out, {"trainings": known})
    errors = {side: [t["err1"] for t in known if t["side"] == side and t["steps"] == steps] for side in SIDES}
    ranges = {side: max(values) - min(values) for side, values in errors.items()}
    difference = mean(errors["ours"]) - mean(errors["common"])
    return {
        "trainings": known,
        **{side: summary(values) for side, values in errors.items()},
        "difference": difference,
        "holds": abs(difference) <= max(ranges.values()),
    }


def summary(errors: list[float]) -> dict[str, Any]:
    spread = stdev(errors) if len(errors) > 1 else 0.0
    return {"mean": mean(errors), "stdev": spread, "range": f"{min(errors):.2%} to {max(errors):.2%}"}


def quick_config(store: Store, runs: Path, seed: int, steps: int, depth: int) -> Config:
    """conf/recipe/cifar_quick.yaml over `steps` steps, on 45k of CIFAR-10's images."""
    config = paper_config(store, runs, depth)
    recipe = {
        "max_steps": steps,
        "lr": 0.4,
        "schedule": "one_cycle",
        "warmup_fraction": 0.25,
        "nesterov": True,
        "weight_decay": 5e-4,
        "normalize": "channel",  # as torchvision's Normalize does
    }
    config = changed(config, data={"split": "holdout"}, recipe=recipe)
    return replace(config, seed=seed)


def _ours(config: Config, store: Store) -> float:
    """The last weights' error, as the other side's: not the best epoch's."""
    result = fit(config, store.path, track=False)
    events, _ = journal.read(Path(result.folder) / journal.NAME)
    return [event["values"]["val/err1"] for event in events if "val/err1" in event.get("values", ())][-1]


def _common(config: Config, store: Store) -> float:
    training = CommonRecipe(config, store)
    with progress(f"common recipe, seed {config.seed}", config.recipe.max_steps, "steps") as shown:
        for step in range(config.recipe.max_steps):
            shown.note(f"loss {training.step(lr_at(step, config.recipe)).item():.4g}")
            shown.advance()
    return _error(training.net, config, store)


@torch.inference_mode()
def _error(net: torch.nn.Module, config: Config, store: Store) -> float:
    net.eval()
    _, indices = store.split_indices(config.data.split)
    wrong = 0
    for images, labels in _batches(store, indices, config.data.split):
        wrong += int((net(images).argmax(1) != labels).sum())
    return wrong / len(indices)


def _batches(store: Store, indices: Any, split: str) -> Iterable[tuple[torch.Tensor, torch.Tensor]]:
    """Normalised (B, C, H, W) float32 images, as ToTensor and Normalize make them, and their classes."""
    records, statistics = store.train(), store.statistics(split)
    for start in range(0, len(indices), EVAL_BATCH):
        rows = indices[start : start + EVAL_BATCH]
        images = torch.from_numpy(records.images[rows]).permute(0, 3, 1, 2) / 255  # type: ignore[union-attr]
        mean_, std = (torch.from_numpy(values)[:, None, None] for values in (statistics.mean, statistics.std))
        yield (images - mean_) / std, torch.from_numpy(records.labels[rows])


if __name__ == "__main__":
    sys.exit(main())
