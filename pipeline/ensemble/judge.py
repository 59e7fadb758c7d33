"""From test probabilities to what evaluation publishes: errors of nets and averages, and comparisons between them.

M members, N test images, K classes. Errors are fractions, intervals are at 95 %.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import replacing
from pipeline.ensemble.build import Ensemble, averages
from pipeline.ensemble.forward import running_averages
from pipeline.ensemble.predictions import Images
from pipeline.ensemble.register import ensemble_key
from pipeline.ensemble.selection import all_but_seed, architecture, first_of_each, length
from pipeline.evaluation.calibration import calibration
from pipeline.evaluation.errors import (
    Labels,
    Probabilities,
    confusion_matrix,
    per_class_errors,
    predicted_classes,
    top_k_error,
    wrong,
)
from pipeline.evaluation.intervals import mcnemar_exact, paired_bootstrap, wilson
from pipeline.record import Net, best_on_validation

VIEWS = {"single": "1-crop", "ten_crop": "10-crop", "multi_scale": "dense, 5 scales"}  # as the report names them
PLOTTED = 100_000  # images; `dvc plots` cannot use a larger table
SEED = 0  # of the bootstrap

Tested = tuple[Net, NDArray[np.float32]]  # a net and its probabilities (N, K) on the test images


def judge(
    ensemble: Ensemble,
    images: Images,
    members: Sequence[NDArray[np.float32]],
    named: Tested | None = None,
    others: Sequence[Tested] = (),
) -> tuple[dict[str, Any], NDArray[np.float32]]:
    """The content of evaluate.json, and the ensemble's probabilities (N, K).

    Args:
        images: the test images.
        members: (M,) arrays (N, K), in the order of the ensemble's members.
        named: the run of the train stage.
        others: nets that are neither members nor the named run.
    """
    labels, classes = images.labels, images.store.manifest.classes
    by_size: list[dict[str, Any]] = []
    average = members[0]
    for val_err1, average in zip(ensemble.val_err1_by_size, averages(ensemble.members, members), strict=True):
        by_size.append({"size": len(by_size) + 1, "val_err1": val_err1, **errors_of(average, labels)})
    weights = {net.checkpoint_sha256: net.weight for net in ensemble.members}
    if named:
        named = replace(named[0], weight=weights.get(named[0].checkpoint_sha256)), named[1]
    pairs = list(zip(ensemble.members, members, strict=True))
    against = [compared(average, pair, labels) for pair in pairs]
    result = {
        "data": _data(images),
        "members": [_tested(net, values, labels) for net, values in pairs],
        "ensemble": {
            "key": ensemble_key(ensemble.members),
            "size": ensemble.size,
            "selection": ensemble.selection,
            "val_err1": ensemble.val_err1,
            "by_size": by_size,
            **errors_of(average, labels),
            "against_members": against,
            **against_best(ensemble.members, against),
        },
        "run": _tested(*named, labels) if named else None,
        "others": [_tested(net, values, labels) for net, values in others],
        "per_class": errors_by_class(average, labels, classes),
        "confusion": confusion_matrix(average, labels).tolist(),
        "calibration": calibration(average, labels),
        "seeds_against_depths": seeds_against_depths([*pairs, *filter(None, [named]), *others], labels),
    }
    return result, average


def _data(images: Images) -> dict[str, Any]:
    manifest = images.store.manifest
    views = f"single {manifest.height}x{manifest.width} view" if manifest.format == "arrays" else None
    return {
        "name": manifest.name,
        "content_hash": manifest.content_hash,
        "protocol": views or VIEWS[images.evaluation.views],
        "batchnorm": images.evaluation.batchnorm,
        "num_test": len(images.indices),
        "classes": list(manifest.classes),
    }


def _tested(net: Net, probabilities: NDArray[np.float32], labels: Labels) -> dict[str, Any]:
    return {**net.to_json(), **errors_of(probabilities, labels)}


def errors_of(probabilities: Probabilities, labels: Labels) -> dict[str, Any]:
    """test_err1 and test_err5, and their Wilson intervals ci95 and ci95_err5."""
    missed, missed5 = wrong(probabilities, labels), wrong(probabilities, labels, 5)
    return {
        "test_err1": float(missed.mean()),
        "test_err5": float(missed5.mean()),
        "ci95": list(wilson(int(missed.sum()), len(labels))),
        "ci95_err5": list(wilson(int(missed5.sum()), len(labels))),
    }


def errors_by_class(probabilities: Probabilities, labels: Labels, classes: Sequence[str]) -> list[dict[str, Any]]:
    """For each class: class, test_err1 (None where it has no test images), count."""
    errors, counts = per_class_errors(probabilities, labels)
    return [
        {"class": name, "test_err1": None if math.isnan(error) else float(error), "count": int(count)}
        for name, error, count in zip(classes, errors, counts, strict=True)
    ]


def compared(probabilities: Probabilities, member: Tested, labels: Labels) -> dict[str, Any]:
    """The ensemble against a member on the same images: McNemar's exact p, and the difference of errors (bootstrap).

    The keys that end in 5 are for top-5 errors.
    """
    net, values = member
    comparison: dict[str, Any] = {"run_id": net.run_id, "checkpoint_sha256": net.checkpoint_sha256}
    for k, end in ((1, ""), (5, "5")):
        ours, theirs = wrong(probabilities, labels, k), wrong(values, labels, k)
        comparison[f"difference{end}"] = paired_bootstrap(ours, theirs, SEED).to_json()
        comparison[f"mcnemar_p{end}"] = mcnemar_exact(ours, theirs)
    return comparison


def against_best(members: Sequence[Net], against: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The comparison with the member that is best on validation images; None where none can be chosen.

    Args:
        against: what `compared` returns for each member.
    """
    best = best_on_validation(members)
    chosen = None if best is None else against[members.index(best)]
    result: dict[str, Any] = {}
    for end in ("", "5"):
        result[f"difference_to_best_member{end}"] = chosen and {
            **chosen[f"difference{end}"],
            "run_id": chosen["run_id"],
            "checkpoint_sha256": chosen["checkpoint_sha256"],
        }
        result[f"mcnemar_p{end}"] = chosen and chosen[f"mcnemar_p{end}"]
    return result


def seeds_against_depths(nets: Sequence[Tested], labels: Labels) -> list[dict[str, Any]]:
    """Where an ensemble's gain comes from: seeds of one net, or nets of several depths ("six models of different depth").

    For 1, 2, ... nets the test errors of two averages with equal weights, each of the best nets on validation:
    seeds: of the net that has the most of them, at one learning rate; depths: of the best net of each depth that was
    trained as the seeds were. `alone` is the mean test error of the single nets, depths_minus_seeds the paired difference.

    Args:
        nets: a net may occur twice; those trained on the validation images cannot be ranked and take no part.
        labels: (N,) true classes.
    Returns:
        [] unless there are two seeds of a net and two depths.
    """
    once = {net.checkpoint_sha256: (net, values) for net, values in nets if net.val_err1 is not None}
    ranked = sorted(once.values(), key=lambda pair: pair[0].rank)
    groups: dict[Hashable, list[Tested]] = {}
    for pair in ranked:
        groups.setdefault(all_but_seed(pair[0]), []).append(pair)
    seeds = max((first_of_each(group, lambda pair: pair[0].seed) for group in groups.values()), key=len, default=[])
    if len(seeds) < 2:
        return []
    net = seeds[0][0]
    alike = [pair for pair in ranked if _training(pair[0]) == _training(net)]
    depths = first_of_each(alike, lambda pair: architecture(pair[0]))
    if len(depths) < 2:
        return []
    pairs = zip(_averaged(seeds, labels), _averaged(depths, labels), strict=False)  # up to the smaller count
    rows = []
    for k, ((one, one_wrong), (other, other_wrong)) in enumerate(pairs, 1):
        difference = paired_bootstrap(other_wrong, one_wrong, SEED).to_json()
        rows.append({"size": k, "net": net.name, "seeds": one, "depths": other, "depths_minus_seeds": difference})
    return rows


def _training(net: Net) -> Hashable:
    return architecture(net)[1:], net.setting, net.snapshot, length(net)


def _averaged(nets: Sequence[Tested], labels: Labels) -> Iterator[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """A row and (N,) wrong answers for the first net, for the average of the first two, and so on."""
    alone = [top_k_error(values, labels, 1) for _, values in nets]
    for k, mean in enumerate(running_averages([values for _, values in nets], [1.0] * len(nets)), 1):
        errors = errors_of(mean, labels)
        row = {"models": [net.name for net, _ in nets[:k]], "alone": sum(alone[:k]) / k}
        yield {**row, "test_err1": errors["test_err1"], "ci95": errors["ci95"]}, wrong(mean, labels)


def write_answers(average: NDArray[np.float32], images: Images, path: Path) -> None:
    """The ensemble's predictions as CSV: actual and predicted class of each image; no rows for a large test set."""
    classes = images.store.manifest.classes
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["actual", "predicted"])
        if len(images.indices) <= PLOTTED:
            pairs = zip(images.labels, predicted_classes(average, images.labels), strict=True)
            table.writerows((classes[actual], classes[predicted]) for actual, predicted in pairs)


def to_track(result: dict[str, Any], ensemble: Ensemble) -> dict[str, tuple[int, dict[str, float]]]:
    """For MLflow: by the run's key the step and the test metrics of each run that was evaluated."""
    nets = (*result["members"], *filter(None, [result["run"]]), *result["others"])
    # A run's test error is that of its best weights, not of a snapshot.
    tested = {net["key"]: (net["steps"], net) for net in nets if not net["snapshot"]}
    tested[ensemble_key(ensemble.members)] = (0, result["ensemble"])
    return {
        key: (step, {"test_err1": net["test_err1"], "test_err5": net["test_err5"]})
        for key, (step, net) in tested.items()
    }
