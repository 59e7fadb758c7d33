"""The model card of an ensemble of detectors, in the form of `pipeline.ensemble.card`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.data.facts import num_training
from pipeline.data.store import Manifest
from pipeline.ensemble.build import Ensemble
from pipeline.ensemble.card import paper

LISTED = 12  # classes


def card(ensemble: Ensemble, manifest: Manifest, tested: Mapping[str, Any] | None = None) -> str:
    """Markdown.

    Args:
        tested: the content of evaluate.json; None before evaluation.
    """
    classes = ", ".join(manifest.classes[:LISTED]) + (", ..." if len(manifest.classes) > LISTED else "")
    rows = [
        f"| {net.name} | {net.steps:,} | {net.lr:g} | {net.seed} | {_ap(net.val_err1)} | {net.key} |"
        for net in ensemble.members
    ]
    measured = "Test images have not been opened yet; `pipeline evaluate` measures the AP."
    if tested is not None:
        low, high = tested["ensemble"]["ci95"]
        measured = (
            f"AP on {tested['data']['num_test']:,} test images: {_ap(tested['ensemble']['test_err1'])} "
            f"(95 % interval {_ap(high)} to {_ap(low)}); at an IoU of 0.5: {_ap(tested['ensemble']['test_err5'])}."
        )
    return "\n".join(
        [
            f"# Detectors of {manifest.name}",
            "",
            f"{ensemble.size} Faster R-CNN detectors (Ren et al. 2015) over nets{paper(ensemble.members)}, which share "
            "the regions that they propose and average what they say of each.",
            "",
            "## Data",
            "",
            f"{manifest.name}, content {manifest.content_hash[:12]}: {num_training(manifest, 'holdout'):,} training, "
            f"{manifest.split['num_val']:,} validation and {manifest.counts['test']:,} test images. "
            f"{len(manifest.classes)} classes: {classes}.",
            "",
            "## Members",
            "",
            "| net | steps | learning rate | seed | AP on validation images | run |",
            "| --- | ---: | ---: | ---: | ---: | --- |",
            *rows,
            "",
            "## AP",
            "",
            f"COCO's average precision over IoU from 0.5 to 0.95. Validation: {_ap(ensemble.val_err1)}. {measured}",
            "",
            "## Use and limits",
            "",
            "For research on these images, and as an example. What it holds for one of its classes may be none of them. AP holds for "
            "images drawn as the test images were. Whatever bias the data set has, the detectors have too.",
            "",
        ]
    )


def _ap(error: float | None) -> str:
    return "not measured" if error is None else f"{100 * (1 - error):.1f} %"
