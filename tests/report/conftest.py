"""Made-up inputs of a report, of any size: nets of given depths on a given data set."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from pipeline.evaluation.intervals import wilson
from pipeline.report.inputs import ReportInputs, net_name
from pipeline.report.paper import PROTOCOLS

SIZES = {"digits": (1150, 287, 360), "cifar10": (45_000, 5_000, 10_000), "imagenet": (1_231_167, 50_000, 50_000)}
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def final_error(depth: int, residual: bool) -> float:
    return 0.0895 - 0.007 * math.log2(depth / 20) if residual else 0.095 + 0.026 * math.log2(depth / 20)


def make_net(depth: int, *, error: float, n: int, residual: bool = True, seed: int = 0, steps: int = 64_000) -> Any:
    wrong = round(error * n)
    return {
        "run_id": f"{seed:04x}{depth:04x}{int(residual)}" + "0" * 23,
        "model": net_name(depth, residual).replace("-", "").lower(),
        "depth": depth,
        "residual": residual,
        "params": 16_000 * depth,
        "macs": 2_300_000 * depth,
        "lr": 0.1,
        "seed": seed,
        "steps": steps,
        "weight": None,
        "val_err1": round(error * 0.97, 4),
        "test_err1": wrong / n,
        "test_err5": round(error / 25, 4),
        "ci95": list(wilson(wrong, n)),
        "ci95_err5": list(wilson(round(error / 25 * n), n)),
        "checkpoint_sha256": f"{depth:064x}",
    }


def make_curve(depth: int, residual: bool, steps: int, *, lr: float = 0.1, seed: int = 0, final: float) -> Any:
    rng = np.random.default_rng([depth, residual, seed])
    drops = (0.5, 0.75)

    def value(t: float, floor: float) -> float:
        level = floor + 0.9 * math.exp(-t * 60) + (0.09 if t < drops[0] else 0.012 if t < drops[1] else 0.0)
        return float(level + rng.normal(0, 0.012 if t < drops[0] else 0.002))

    train = [[i * steps // 400, max(0.0, value(i / 400, final * 0.25))] for i in range(1, 401)]
    val = [[i * steps // 90, max(0.0, value(i / 90, final))] for i in range(1, 91)]
    val[-1][1] = final
    name = f"{net_name(depth, residual)}-lr{lr}-s{seed}"
    points = {"train/err1": train, "val/err1": val, "train/loss": [[step, 2 * error] for step, error in train]}
    return {
        "run_id": name,
        "name": name,
        "model": net_name(depth, residual).replace("-", "").lower(),
        "depth": depth,
        "residual": residual,
        "points": points,
        "lr": lr,
    }


def make_trials(depths: tuple[int, ...], lrs: tuple[float, ...], steps: int) -> Any:
    trials = []
    for depth in depths:
        for lr in lrs:
            error = final_error(depth, True) * 0.97 + 0.01 * math.log(lr / 0.1) ** 2
            stopped = lr != 0.1 and depth != depths[-1]
            config = {"model.depth": depth, "recipe.lr": lr}
            trials.append(
                {
                    "name": f"resnet{depth}-lr{lr}",
                    "run_id": make_net(depth, error=0.1, n=10)["run_id"] if lr == 0.1 else f"trial{depth}{lr}",
                    "key": f"{depth}{lr}",
                    "config": config,
                    "val_err1": error * (1.8 if stopped else 1),
                    "steps": steps // 4 if stopped else steps,
                    "stopped_early": stopped,
                    "status": "finished",
                }
            )
    return {"metric": "val/err1", "trials": trials}


def make_confusion(errors: list[float], per_class: int) -> list[list[int]]:
    K = len(errors)
    rng = np.random.default_rng(0)
    rows = []
    for i, error in enumerate(errors):
        wrong = round(error * per_class)
        row = rng.multinomial(wrong, rng.dirichlet(np.full(K - 1, 0.4))).tolist() if K > 1 else []
        row.insert(i, per_class - wrong)
        rows.append(row)
    return rows


def make_evaluation(name: str, members: list[Any], run: Any, classes: list[str], n: int) -> Any:
    K = len(classes)
    best = min((member["test_err1"] for member in members), default=0.09)
    wrong = round(best * 0.85 * n)
    spread = np.random.default_rng(1).uniform(0.4, 1.6, K)
    errors = (wrong / n * spread / spread.mean()).clip(0, 1).tolist()
    confusion = make_confusion(errors, n // K)
    names = zip(classes, confusion, range(K), strict=True)
    ensemble = {
        "size": len(members),
        "selection": "best_per_depth",
        "val_err1": round(best * 0.83, 4),
        "test_err1": wrong / n,
        "test_err5": 0.0016,
        "ci95": list(wilson(wrong, n)),
        "ci95_err5": list(wilson(round(0.0016 * n), n)),
        "mcnemar_p": 0.0123,
        "by_size": [
            {
                "size": size,
                "val_err1": round(best * (0.8 + 0.18 / size), 4),
                "test_err1": (missed := round(wrong * (0.98 + 0.2 / size))) / n,
                "ci95": list(wilson(missed, n)),
            }
            for size in range(1, len(members) + 1)
        ],
        "difference_to_best_member": {
            "estimate": wrong / n - best,
            "ci95": [wrong / n - best - 0.003, wrong / n - best + 0.003],
            "run_id": min(members, key=lambda member: member["test_err1"])["run_id"] if members else "",
        },
    }
    return {
        "data": {"name": name},
        "members": members,
        "ensemble": ensemble if members else None,
        "run": run,
        "per_class": [{"class": c, "test_err1": 1 - row[i] / sum(row), "count": sum(row)} for c, row, i in names],
        "confusion": confusion,
    }


def make_layers(net: Any) -> Any:
    rng = np.random.default_rng(net["depth"])
    facts = {name: net[name] for name in ("run_id", "model", "depth", "residual", "seed")}
    std = (rng.uniform(0.5, 1.5, net["depth"] - 1) / net["depth"] ** 0.5).tolist()
    return {**facts, "key": "", "std": std, "gradient": (0.01 * rng.uniform(0.5, 2, net["depth"] - 1)).tolist()}


def sample(
    name: str = "cifar10",
    depths: tuple[int, ...] = (20, 32, 44, 56),
    plain: tuple[int, ...] = (20, 56),
    classes: list[str] | None = None,
    steps: int = 64_000,
    lrs: tuple[float, ...] = (0.05, 0.1, 0.2),
) -> ReportInputs:
    """Inputs with everything in them: a member a depth, a curve a net and a trial, a sweep of depth and lr."""
    train, val, test = SIZES[name]
    classes = classes or (CIFAR10 if name == "cifar10" else [str(i) for i in range(10)])
    members = [make_net(depth, error=final_error(depth, True), n=test, steps=steps) for depth in depths]
    for member in members:
        member["weight"] = 1 / len(members)
    run = make_net(110, error=0.0655, n=test, seed=1, steps=steps)
    curves = [make_curve(depth, True, steps, final=final_error(depth, True)) for depth in depths]
    curves += [make_curve(depth, False, steps, final=final_error(depth, False)) for depth in plain]
    curves += [make_curve(depth, True, steps, lr=0.2, seed=1, final=final_error(depth, True) * 1.1) for depth in depths]
    for curve in curves:
        curve["recipe"] = dict(PROTOCOLS[name].recipe) if name in PROTOCOLS else {}
    for curve, net in zip(curves, members, strict=False):  # the first ones, in the members' order
        curve["run_id"] = net["run_id"]
    return ReportInputs(
        data={
            "name": name,
            "classes": classes,
            "counts": {"train": train, "val": val, "test": test},
            "content_hash": "4f1b" * 16,
        },
        evaluation=make_evaluation(name, members, run, classes, test),
        leaderboard=make_trials(depths, lrs, steps) if depths else None,
        curves=curves,
        responses=[make_layers(net) for net in [*members, run]],
        provenance={
            "git_commit": "59734c4d0e5f",
            "dvc_lock": "9d1c2b7a",
            "date": "2025-03-14",
            "host": "16 cores, one NVIDIA A100",
            "tracking_uri": "https://reader:hunter2@mlflow.example.org",
            "versions": {"torch": "2.11.0", "mlflow": "3.17.2"},
            "commands": {"everything": "dvc repro", "figures/curves.png": "pipeline report"},
        },
    )


@pytest.fixture(scope="session")
def make_sample():
    return sample


@pytest.fixture(scope="session", name="make_curve")
def make_curve_fixture():
    return make_curve
