"""Made-up inputs of a report, of any size: nets of given depths on a given data set."""

from __future__ import annotations

import base64
import dataclasses
import io
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from nets import make_net, make_recipe
from PIL import Image

from pipeline.evaluation.intervals import wilson
from pipeline.record import Net
from pipeline.report.curve import Curve
from pipeline.report.inputs import ReportInputs

SIZES = {"digits": (1150, 287, 360), "cifar10": (45_000, 5_000, 10_000), "imagenet": (1_231_167, 50_000, 50_000)}
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def final_error(depth: int, residual: bool) -> float:
    return 0.0895 - 0.007 * math.log2(depth / 20) if residual else 0.095 + 0.026 * math.log2(depth / 20)


def make_curve(net: Net, final: float | None = None, steps: int | None = None) -> Curve:
    """Curves of a training of this net that ends at an error of `final`."""
    model, steps = net.model, steps or net.steps
    final = final_error(model.depth, model.residual) if final is None else final
    rng = np.random.default_rng([model.depth, model.residual, net.seed or 0])
    drops = (0.5, 0.75)

    def value(t: float, floor: float) -> float:
        level = floor + 0.9 * math.exp(-t * 60) + (0.09 if t < drops[0] else 0.012 if t < drops[1] else 0.0)
        return float(level + rng.normal(0, 0.012 if t < drops[0] else 0.002))

    train = [(i * steps // 400, max(0.0, value(i / 400, final * 0.25))) for i in range(1, 401)]
    val = [(i * steps // 90, max(0.0, value(i / 90, final))) for i in range(1, 91)]
    val[-1] = (val[-1][0], final)
    points = {"train/err1": train, "val/err1": val, "train/loss": [(step, 2 * error) for step, error in train]}
    return Curve(net=net, points=points)


def _of_trials(depths: tuple[int, ...], lr: float, steps: int, dataset: str = "cifar10") -> list[Net]:
    recipe = make_recipe(dataset, steps, lr=lr)
    return [
        make_net(d, recipe=recipe, run_id=f"trial{d}{lr}", key=f"{d}{lr}", steps=steps, checkpoint_sha256="")
        for d in depths
    ]


def make_trials(depths: tuple[int, ...], lrs: tuple[float, ...], steps: int) -> dict[str, Any]:
    trials = []
    for depth in depths:
        for lr in lrs:
            error = final_error(depth, True) * 0.97 + 0.01 * math.log(lr / 0.1) ** 2
            stopped = lr != 0.1 and depth != depths[-1]
            net = make_net(depth)
            trials.append(
                {
                    "name": f"ResNet-{depth}, lr={lr}",
                    "run_id": net.run_id if lr == 0.1 else f"trial{depth}{lr}",
                    "key": net.key if lr == 0.1 else "",
                    "config": {"model.depth": depth, "recipe.lr": lr},
                    "val_err1": error * (1.8 if stopped else 1),
                    "steps": steps // 4 if stopped else steps,
                    "stopped_early": stopped,
                    "status": "finished",
                }
            )
    return {"metric": "val/err1", "trials": trials}


def make_confusion(errors: list[float], per_class: int) -> list[list[int]]:
    K, rng, rows = len(errors), np.random.default_rng(0), []
    for i, error in enumerate(errors):
        wrong = round(error * per_class)
        row = rng.multinomial(wrong, rng.dirichlet(np.full(K - 1, 0.4))).tolist()
        row.insert(i, per_class - wrong)
        rows.append(row)
    return rows


def _difference(estimate: float) -> dict[str, Any]:
    return {"estimate": estimate, "ci95": [estimate - 0.003, estimate + 0.003]}


def make_evaluation(name: str, members: Sequence[Net], run: Net | None, classes: list[str], n: int) -> dict[str, Any]:
    K = len(classes)
    best = min((member.test_err1 or 0.0 for member in members), default=0.09)
    wrong = round(best * 0.85 * n)
    errors = np.random.default_rng(1).uniform(0.4, 1.6, K)
    confusion = make_confusion((wrong / n * errors / errors.mean()).clip(0, 1).tolist(), n // K)
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
        "difference_to_best_member": _difference(wrong / n - best),
        "against_members": [
            {
                "run_id": member.run_id,
                "checkpoint_sha256": member.checkpoint_sha256,
                "difference": _difference(wrong / n - (member.test_err1 or 0.0)),
                "mcnemar_p": 0.0123,
                "difference5": _difference(0.0016 - (member.test_err5 or 0.0)),
                "mcnemar_p5": 0.5,
            }
            for member in members
        ],
    }
    names = zip(classes, confusion, range(K), strict=True)
    return {
        "data": {"name": name},
        "members": [net.to_json() for net in members],
        "ensemble": ensemble if members else None,
        "run": run.to_json() if run else None,
        "others": [],
        "per_class": [{"class": c, "test_err1": 1 - row[i] / sum(row), "count": sum(row)} for c, row, i in names],
        "confusion": confusion,
        "calibration": make_calibration(n),
    }


def make_calibration(n: int) -> dict[str, Any]:
    """Of a net that is a little too sure, as `pipeline.evaluation.calibration` returns it."""
    bins = []
    for place, share in ((5, 0.02), (6, 0.03), (7, 0.05), (8, 0.1), (9, 0.8)):
        count, sure = round(share * n), place / 10 + 0.06
        hits = round((sure - 0.04) * count)
        ci95 = [1 - end for end in reversed(wilson(count - hits, count))]
        bins.append({"count": count, "confidence": sure, "accuracy": hits / count, "ci95": ci95})
    return {"confidence": 0.93, "expected_error": 0.04, "bins": bins}


def make_mistakes(classes: Sequence[str], colours: int = 3) -> list[dict[str, Any]]:
    """Twelve, as `pipeline.ensemble.mistakes` returns them."""
    rng, found = np.random.default_rng(2), []
    for at in range(12):
        buffer = io.BytesIO()
        pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels if colours == 3 else pixels[..., 0]).save(buffer, format="PNG")
        actual, predicted = classes[at % len(classes)], classes[(at + 1) % len(classes)]
        png = base64.b64encode(buffer.getvalue()).decode()
        found.append(
            {"index": at, "actual": actual, "predicted": predicted, "confidence": 0.999 - at / 100, "png": png}
        )
    return found


def make_layers(net: Net, std: list[float] | None = None, gradient: list[float] | None = None) -> dict[str, Any]:
    rng, layers = np.random.default_rng(net.model.depth), net.model.depth - 1
    std = std or (rng.uniform(0.5, 1.5, layers) / net.model.depth**0.5).tolist()
    gradient = gradient or (0.01 * rng.uniform(0.5, 2, layers)).tolist()
    return {"run_id": net.run_id, "key": net.key, "snapshot": net.snapshot, "std": std, "gradient": gradient}


def make_sample(
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
    about = {"n": test, "steps": steps, "dataset": name}
    members = [make_net(d, error=final_error(d, True), weight=1 / len(depths), **about) for d in depths]
    run = make_net(110, error=0.0655, seed=1, **about)
    curves = [make_curve(net) for net in members]
    curves += [make_curve(make_net(depth, residual=False, **about)) for depth in plain]
    for net in (net for lr in lrs if lr != 0.1 for net in _of_trials(depths, lr, steps, name)):
        curves.append(make_curve(net, final_error(net.model.depth, True) * 1.1))
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
        mistakes=make_mistakes(classes),
        provenance={
            "git_commit": "59734c4d0e5f",
            "dvc_lock": "9d1c2b7a",
            "date": "2025-03-14",
            "host": "16 cores, one NVIDIA A100",
            "tracking_uri": "https://reader:hunter2@mlflow.example.org",
            "versions": {"torch": "2.11.0", "mlflow": "3.17.2"},
            "commands": {
                "the whole experiment": "dvc exp run -S data=cifar10",
                "figures/curves.png": "pipeline report",
            },
        },
    )


def with_nets(
    inputs: ReportInputs, members: Sequence[Net], run: Net | None = None, others: Sequence[Net] = (), **changes: Any
) -> ReportInputs:
    """`inputs` with these nets evaluated, and other changes of the evaluation; curves=... replaces the curves."""
    curves = changes.pop("curves", inputs.curves)
    evaluation = {
        **inputs.evaluation,
        "members": [net.to_json() for net in members],
        "run": run.to_json() if run else None,
        "others": [net.to_json() for net in others],
        **changes,
    }
    return dataclasses.replace(inputs, evaluation=evaluation, curves=curves)


def unvalidated(inputs: ReportInputs) -> ReportInputs:
    """`inputs` whose members were trained on the validation images too."""
    nets = [dataclasses.replace(net, val_err1=None, split="full") for net in inputs.members]
    ensemble = {**(inputs.ensemble or {}), "val_err1": None, "difference_to_best_member": None, "mcnemar_p": None}
    ensemble["by_size"] = [{**average, "val_err1": None} for average in ensemble["by_size"]]
    return with_nets(inputs, nets, inputs.named_run, ensemble=ensemble)
