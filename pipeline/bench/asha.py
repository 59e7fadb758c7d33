"""`python -m pipeline.bench.asha --data STORE [--out FILE]`: does ASHA find what the exhaustive grid finds, in fewer steps?

Both are the pipeline's own sweeps over the same eight configurations, each in a workspace of its own, so that ASHA finds
nothing that the grid has trained. Cut off, the same command goes on where it stopped. On two cores the grid takes about
half an hour, ASHA half of that, on one of them.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
from pathlib import Path
from typing import Any

from pipeline.atomic import read_json, write_json
from pipeline.bench.commands import run, workspace
from pipeline.data.store import Store, open_store
from pipeline.run.attempt import RUN
from pipeline.workspace import Workspace

# A coarse search, in decades. ASHA holds each trial against those before it and lets the first of all pass: the likeliest
# come first. In a random order it would take half of the grid's steps, in the reverse order four fifths.
SPACE = "{model.depth:[14,8],recipe.lr:[0.1,0.01,1.0,0.001]}"
EPOCHS, REDUCTION = 9, 3  # ASHA looks after 1 and after 3 epochs
# A constant learning rate. Under one cycle, early errors tell how high the rate has come and not where it will end, and
# ASHA would keep those that rise least.
TRAINING = (
    "data=cifar10",
    "recipe=cifar_paper",
    "recipe.milestones=[]",
    "trainer.threads=1",
    "trainer.compile=false",
    "sweep.cpus_per_trial=1",
    "sweep.grace_epochs=1",
)
GAP, SHARE = 0.003, 0.4  # bars: of the validation error, of the grid's steps
PATIENCE_S = 24 * 3600.0


def main(argv: list[str] | None = None) -> int:
    """Exit status: 0 measured, whether the bars hold or not; 2 a store or an override that cannot be used; 130 interrupted."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.bench.asha", description="ASHA against the whole grid.")
    parser.add_argument("--data", type=Path, metavar="STORE", required=True, help="CIFAR-10 as preprocess made it")
    parser.add_argument("--out", type=Path, metavar="FILE", default=Path("metrics/asha.json"))
    parser.add_argument(
        "--work", type=Path, metavar="FOLDER", default=Path("runs/asha"), help="keeps both sweeps' runs"
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--space", default=SPACE, help=f"sweep.space; default {SPACE}")
    parser.add_argument("override", nargs="*", help="of both sweeps, for example recipe.batch_size=64")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that the sweep's processes end too
    try:
        found = compare(open_store(options.data), options.work, options.epochs, options.space, options.override)
    except (ValueError, FileNotFoundError) as error:
        print(f"asha: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("asha: interrupted; the same command goes on from what is done", file=sys.stderr)
        return 130
    write_json(options.out, found)
    grid, asha = found["grid"], found["asha"]
    print(
        f"best validation error {100 * asha['best_err1']:.2f} % by ASHA, {100 * grid['best_err1']:.2f} % by the grid; "
        f"{asha['steps']:,} of {grid['steps']:,} steps ({found['share_of_steps']:.0%}): "
        f"{'holds' if found['holds'] else 'does not hold'}"
    )
    print(options.out)
    return 0


def compare(store: Store, work: Path, epochs: int, space: str, overrides: list[str]) -> dict[str, Any]:
    """What both sweeps came to.

    Args:
        work: keeps their runs; what is there already is not trained again.
    """
    batch_size = next((int(o.split("=")[1]) for o in overrides if o.startswith("recipe.batch_size=")), 128)
    train, _ = store.split_indices("holdout")
    steps = len(train) // batch_size * epochs
    chosen = [*TRAINING, f"recipe.max_steps={steps}", f"sweep.space={space}", *overrides]
    grid = _swept(work.resolve() / "grid", store, [*chosen, "sweep.reduction_factor=0"])
    # One at a time: of two at once, the smaller net would be the first, and pass whatever it came to.
    one = ["sweep.max_concurrent=1", f"sweep.reduction_factor={REDUCTION}"]
    asha = _swept(work.resolve() / "asha", store, [*chosen, *one])
    share, gap = asha["steps"] / grid["steps"], asha["best_err1"] - grid["best_err1"]
    return {
        "data": {"name": store.manifest.name, "content_hash": store.manifest.content_hash},
        "overrides": chosen,
        "hardware": {"machine": platform.machine(), "cores": os.cpu_count()},
        "grid": grid,
        "asha": asha,
        "share_of_steps": share,
        "gap_err1": gap,
        "bars": {"share_of_steps": SHARE, "gap_err1": GAP},
        "holds": share < SHARE and gap <= GAP,
    }


def _swept(root: Path, store: Store, overrides: list[str]) -> dict[str, Any]:
    """One sweep's trials, the best first; their steps and seconds together."""
    workspace(root, "cifar10", store.path)
    run(root, "pipeline", "sweep", *overrides, patience_s=PATIENCE_S)
    trials = read_json(Workspace(root, "cifar10").leaderboard)["trials"]
    for trial in trials:
        facts = root / "runs" / trial["key"] / RUN
        trial["seconds"] = read_json(facts)["seconds"] if trial["key"] and facts.exists() else 0.0
    return {
        "best_err1": trials[0]["val_err1"],
        "best": trials[0]["config"],
        "steps": sum(trial["steps"] for trial in trials),
        "trial_seconds": sum(trial["seconds"] for trial in trials),
        "trials": [
            {key: trial[key] for key in ("config", "val_err1", "steps", "status", "seconds")} for trial in trials
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
