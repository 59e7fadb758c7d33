"""From members' test probabilities to what evaluation publishes and tells MLflow."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import replacing
from pipeline.ensemble.averages import averages
from pipeline.ensemble.diversity import seeds_against_depths
from pipeline.ensemble.folder import Ensemble, Member
from pipeline.ensemble.predictions import Images
from pipeline.evaluation.evaluate import Judged, answers, evaluation, tested

VIEWS = {"single": "1-crop", "ten_crop": "10-crop", "multi_scale": "dense, 5 scales"}  # as the report calls them
PLOTTED = 100_000  # images; a table of more is of no use to `dvc plots`


def judge(
    ensemble: Ensemble,
    members: Sequence[NDArray[np.float32]],
    named: tuple[Member, NDArray[np.float32]] | None,
    images: Images,
    others: Sequence[tuple[Member, NDArray[np.float32]]] = (),
) -> dict[str, Any]:
    """The content of evaluate.json, see `pipeline.evaluation.evaluate` and `seeds_against_depths`.

    Args:
        members: (M,) arrays (N, K), probabilities in the order of the ensemble's members.
        named: the named run and its (N, K), if there is one.
        images: the test images.
        others: nets that are neither members nor the named run, and their (N, K).
    """
    manifest = images.store.manifest
    weights = {member.checkpoint_sha256: member.weight for member in ensemble.members}
    by_size: list[dict[str, Any]] = []
    whole = members[0]
    for val_err1, whole in zip(ensemble.val_err1_by_size, averages(ensemble.members, members), strict=True):
        by_size.append({"size": len(by_size) + 1, "val_err1": val_err1, **tested(whole, images.labels)})
    shown = VIEWS[images.evaluation.views]
    if manifest.format == "arrays":
        shown = f"single {manifest.height}x{manifest.width} view"
    told = evaluation(
        data={
            "name": manifest.name,
            "content_hash": manifest.content_hash,
            "protocol": shown,
            "batchnorm": images.evaluation.batchnorm,
        },
        classes=manifest.classes,
        labels=images.labels,
        members=[Judged(_facts(net), p) for net, p in zip(ensemble.members, members, strict=True)],
        ensemble=Judged(
            {
                "size": ensemble.size,
                "selection": ensemble.selection,
                "val_err1": ensemble.val_err1,
                "by_size": by_size,
            },
            whole,
        ),
        run=Judged(_facts(replace(named[0], weight=weights.get(named[0].checkpoint_sha256))), named[1])
        if named
        else None,
        others=[Judged(_facts(net), p) for net, p in others],
    )
    nets = [*zip(ensemble.members, members, strict=True), *filter(None, [named]), *others]
    return {**told, "seeds_against_depths": seeds_against_depths(nets, images.labels)}


def write_answers(ensemble: Ensemble, members: Sequence[NDArray[np.float32]], images: Images, path: Path) -> None:
    """CSV with the columns actual and predicted, a row an image: the ensemble's answers; no rows for large test sets."""
    (whole,) = deque(averages(ensemble.members, members), maxlen=1)  # the last one alone stays in memory
    rows = answers(whole, images.labels, images.store.manifest.classes)
    with replacing(path) as part, part.open("w", newline="") as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(["actual", "predicted"])
        table.writerows(rows if len(images.indices) <= PLOTTED else [])


def to_track(result: dict[str, Any], ensemble: Ensemble) -> dict[str, tuple[int, dict[str, float]]]:
    """For MLflow: the step and the test metrics of each run that an evaluation names, by run id."""
    nets = (*result["members"], *filter(None, [result["run"]]), *result["others"])
    # A run's test error is that of the weights that it chose, not of a snapshot on the way.
    judged = {net["run_id"]: (net["steps"], net) for net in nets if not net["snapshot"]}
    judged[ensemble.registered["run_id"]] = (0, result["ensemble"])
    return {
        run_id: (step, {"test/err1": net["test_err1"], "test/err5": net["test_err5"]})
        for run_id, (step, net) in judged.items()
        if run_id
    }


def _facts(member: Member) -> dict[str, Any]:
    facts = asdict(member)
    del facts["weights"]  # a path
    return facts
