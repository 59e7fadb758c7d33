"""evaluate.json, from probabilities: what each net and their average err on the test images.

N images, K classes. Errors are fractions, intervals are at 95 %. Pure: nothing is read or written here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from pipeline.evaluation.errors import (
    Labels,
    Probabilities,
    confusion_matrix,
    per_class_errors,
    predictions,
    wrong,
)
from pipeline.evaluation.intervals import mcnemar_exact, paired_bootstrap, wilson

SEED = 0  # of the bootstrap


class Judged(NamedTuple):
    """A net or an average of nets: what is known of it, and what it says of the test images."""

    facts: dict[str, Any]  # published as they are; "val_err1", "run_id" and "checkpoint_sha256" are read
    probabilities: Probabilities  # (N, K)


def evaluation(
    data: dict[str, Any],
    classes: Sequence[str],
    labels: Labels,
    members: Sequence[Judged],
    ensemble: Judged,
    run: Judged | None,
    others: Sequence[Judged] = (),
) -> dict[str, Any]:
    """The content of evaluate.json.

    The ensemble is compared with the member of the lowest validation error: the one that would have been published
    without an ensemble. Choosing the lowest test error instead would let the test images choose. Where a member has no
    validation error, it is compared with the first that the user has listed.

    Args:
        data: facts of the data set, published as they are.
        labels: (N,) true classes.
        members: at least one.
        run: the named run, if there is one.
        others: neither members nor the named run.
    """
    told = [member.facts["val_err1"] for member in members]
    best = members[0] if None in told else members[told.index(min(told))]
    errors, counts = per_class_errors(ensemble.probabilities, labels)
    return {
        "data": {**data, "num_test": len(labels), "classes": list(classes)},
        "members": [{**member.facts, **tested(member.probabilities, labels)} for member in members],
        "ensemble": {
            **ensemble.facts,
            **tested(ensemble.probabilities, labels),
            **compared(ensemble.probabilities, best, labels),
        },
        "run": {**run.facts, **tested(run.probabilities, labels)} if run else None,
        "others": [{**net.facts, **tested(net.probabilities, labels)} for net in others],
        "per_class": [
            {"class": name, "test_err1": None if math.isnan(error) else float(error), "count": int(count)}
            for name, error, count in zip(classes, errors, counts, strict=True)
        ],
        "confusion": confusion_matrix(ensemble.probabilities, labels).tolist(),
    }


def tested(probabilities: Probabilities, labels: Labels) -> dict[str, Any]:
    """test_err1 and test_err5 with their intervals (Wilson), ci95 and ci95_err5."""
    missed, missed5 = wrong(probabilities, labels), wrong(probabilities, labels, 5)
    return {
        "test_err1": float(missed.mean()),
        "test_err5": float(missed5.mean()),
        "ci95": list(wilson(int(missed.sum()), len(labels))),
        "ci95_err5": list(wilson(int(missed5.sum()), len(labels))),
    }


def compared(probabilities: Probabilities, best: Judged, labels: Labels) -> dict[str, Any]:
    """The ensemble against its best member on the same images: McNemar's exact p, difference of errors (bootstrap).

    Of top-1 errors, and of top-5 errors under the same names ending in 5.
    """
    found: dict[str, Any] = {}
    for k, end in ((1, ""), (5, "5")):
        ours, theirs = wrong(probabilities, labels, k), wrong(best.probabilities, labels, k)
        difference = paired_bootstrap(ours, theirs, SEED)
        found[f"mcnemar_p{end}"] = mcnemar_exact(ours, theirs)
        found[f"difference_to_best_member{end}"] = {
            "estimate": difference.estimate,
            "ci95": [difference.low, difference.high],
            "run_id": best.facts["run_id"],
            "checkpoint_sha256": best.facts["checkpoint_sha256"],
        }
    return found


def answers(probabilities: Probabilities, labels: Labels, classes: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Of each image the true and the predicted class, by name."""
    for actual, predicted in zip(labels, predictions(probabilities, labels), strict=True):
        yield classes[actual], classes[predicted]
