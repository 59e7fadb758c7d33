"""From test probabilities to what evaluation publishes: errors of nets and averages, and their comparisons.

M members, N test images, K classes. Errors are fractions, intervals are at 95 %.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import replacing
from pipeline.ensemble.build import Ensemble, averages
from pipeline.ensemble.diversity import seeds_against_depths
from pipeline.ensemble.predictions import Images
from pipeline.evaluation.errors import (
    Labels,
    Probabilities,
    confusion_matrix,
    per_class_errors,
    predicted_classes,
    wrong,
)
from pipeline.evaluation.intervals import mcnemar_exact, paired_bootstrap, wilson
from pipeline.record import Net

VIEWS = {"single": "1-crop", "ten_crop": "10-crop", "multi_scale": "dense, 5 scales"}  # as the report calls them
PLOTTED = 100_000  # images; a table of more is of no use to `dvc plots`
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
    manifest, labels = images.store.manifest, images.labels
    by_size: list[dict[str, Any]] = []
    average = members[0]
    for val_err1, average in zip(ensemble.val_err1_by_size, averages(ensemble.members, members), strict=True):
        by_size.append({"size": len(by_size) + 1, "val_err1": val_err1, **errors_of(average, labels)})
    weights = {net.checkpoint_sha256: net.weight for net in ensemble.members}
    if named:
        named = replace(named[0], weight=weights.get(named[0].checkpoint_sha256)), named[1]
    pairs = list(zip(ensemble.members, members, strict=True))
    views = f"single {manifest.height}x{manifest.width} view" if manifest.format == "arrays" else None
    result = {
        "data": {
            "name": manifest.name,
            "content_hash": manifest.content_hash,
            "protocol": views or VIEWS[images.evaluation.views],
            "batchnorm": images.evaluation.batchnorm,
            "num_test": len(labels),
            "classes": list(manifest.classes),
        },
        "members": [_tested(net, values, labels) for net, values in pairs],
        "ensemble": {
            "size": ensemble.size,
            "selection": ensemble.selection,
            "val_err1": ensemble.val_err1,
            "by_size": by_size,
            **errors_of(average, labels),
            **compared(average, best_member(pairs), labels),
        },
        "run": _tested(*named, labels) if named else None,
        "others": [_tested(net, values, labels) for net, values in others],
        "per_class": errors_by_class(average, labels, manifest.classes),
        "confusion": confusion_matrix(average, labels).tolist(),
        "seeds_against_depths": seeds_against_depths([*pairs, *filter(None, [named]), *others], labels),
    }
    return result, average


def errors_of(probabilities: Probabilities, labels: Labels) -> dict[str, Any]:
    """test_err1 and test_err5 with their intervals (Wilson), ci95 and ci95_err5."""
    missed, missed5 = wrong(probabilities, labels), wrong(probabilities, labels, 5)
    return {
        "test_err1": float(missed.mean()),
        "test_err5": float(missed5.mean()),
        "ci95": list(wilson(int(missed.sum()), len(labels))),
        "ci95_err5": list(wilson(int(missed5.sum()), len(labels))),
    }


def errors_by_class(probabilities: Probabilities, labels: Labels, classes: Sequence[str]) -> list[dict[str, Any]]:
    """A dict a class: class, test_err1 (None without test images), count."""
    errors, counts = per_class_errors(probabilities, labels)
    return [
        {"class": name, "test_err1": None if math.isnan(error) else float(error), "count": int(count)}
        for name, error, count in zip(classes, errors, counts, strict=True)
    ]


def best_member(members: Sequence[Tested]) -> Tested:
    """The member with the lowest validation error: the net that would have been published without an ensemble.

    Choosing the lowest test error instead would let the test images choose. Where a member has no validation error, the
    first that the user has listed.
    """
    errors = [math.inf if net.val_err1 is None else net.val_err1 for net, _ in members]
    return members[0] if math.inf in errors else members[errors.index(min(errors))]


def compared(probabilities: Probabilities, best: Tested, labels: Labels) -> dict[str, Any]:
    """The ensemble against its best member on the same images: McNemar's exact p, difference of errors (bootstrap).

    Of top-1 errors, and of top-5 errors under the same names ending in 5.
    """
    net, values = best
    comparison: dict[str, Any] = {}
    for k, end in ((1, ""), (5, "5")):
        ours, theirs = wrong(probabilities, labels, k), wrong(values, labels, k)
        difference = paired_bootstrap(ours, theirs, SEED)
        comparison[f"mcnemar_p{end}"] = mcnemar_exact(ours, theirs)
        comparison[f"difference_to_best_member{end}"] = {
            "estimate": difference.estimate,
            "ci95": [difference.low, difference.high],
            "run_id": net.run_id,
            "checkpoint_sha256": net.checkpoint_sha256,
        }
    return comparison


def write_answers(average: NDArray[np.float32], images: Images, path: Path) -> None:
    """CSV with the columns actual and predicted, a row an image: the ensemble's answers; no rows for large test sets."""
    classes = images.store.manifest.classes
    with replacing(path) as part, part.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["actual", "predicted"])
        if len(images.indices) <= PLOTTED:
            pairs = zip(images.labels, predicted_classes(average, images.labels), strict=True)
            table.writerows((classes[actual], classes[predicted]) for actual, predicted in pairs)


def to_track(result: dict[str, Any], ensemble: Ensemble) -> dict[str, tuple[int, dict[str, float]]]:
    """For MLflow: the step and the test metrics of each run that an evaluation names, by run id."""
    nets = (*result["members"], *filter(None, [result["run"]]), *result["others"])
    # A run's test error is that of the weights that it chose, not of a snapshot on the way.
    tested = {net["run_id"]: (net["steps"], net) for net in nets if not net["snapshot"]}
    tested[ensemble.registered["run_id"]] = (0, result["ensemble"])
    return {
        run_id: (step, {"test/err1": net["test_err1"], "test/err5": net["test_err5"]})
        for run_id, (step, net) in tested.items()
        if run_id
    }


def _tested(net: Net, probabilities: NDArray[np.float32], labels: Labels) -> dict[str, Any]:
    return {**net.to_json(), **errors_of(probabilities, labels)}
