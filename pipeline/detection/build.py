"""From MLflow's runs to a published ensemble of detectors; the folder is that of `pipeline.ensemble.build`, without probabilities."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

from pipeline.atomic import replacing
from pipeline.config import EnsembleConfig
from pipeline.detection.card import card
from pipeline.detection.found import FOLDER, Scenes, found_by
from pipeline.ensemble import selection
from pipeline.ensemble.build import Ensemble, tracked_run
from pipeline.ensemble.card import NAME as CARD
from pipeline.ensemble.members import Source
from pipeline.errors import PipelineError


def build_ensemble(source: Source, config: EnsembleConfig, out: Path, tags: dict[str, str]) -> Ensemble:
    """Chooses members by their AP on validation images, measures them as one, and publishes `out`, whole or not at all.

    Members are equal. Their detections on validation images choose nothing further.

    Args:
        tags: lineage, for the MLflow run.
    Raises:
        PipelineError: no candidates or weights (see `Source`), or a selection that averages probabilities of images.
    """
    if config.selection in ("greedy", "snapshots") or config.temperature != "none":
        key = "temperature" if config.temperature != "none" else "selection"
        raise PipelineError(
            f"ensemble.{key}={getattr(config, key)} with detectors, whose members are equal and share their regions "
            f"(override: ensemble.{key}={'none' if key == 'temperature' else 'top_k'})"
        )
    began, manifest = monotonic(), source.store.manifest
    listed = config.selection == "listed"
    candidates = source.listed(config.members) if listed else source.candidates()
    members = candidates if listed else selection.RULES[config.selection](candidates, config.size)
    members = [replace(net, weight=1 / len(members)) for net in members]
    scenes = Scenes("val", source.store)
    with replacing(out) as part:
        files = [source.fetch(net, part) for net in members]
        joint = found_by(files, scenes, source.runs / FOLDER, source.device)
        unseen = all(net.val_err1 is not None for net in members)
        val_err1 = 1 - (scenes.matches(joint).scores().ap or 0.0) if unseen else None
        ensemble = Ensemble(
            selection=config.selection,
            wanted=config.size,
            data=manifest.name,
            content_hash=manifest.content_hash,
            val_err1=val_err1,
            val_err1_by_size=[*([None] * (len(members) - 1)), val_err1],
            members=members,
            registered={
                "name": "",
                "version": 0,
                "run_id": tracked_run(source, config, members, val_err1, tags, began),
            },
        )
        ensemble.write(part)
        (part / CARD).write_text(card(ensemble, manifest))
    return ensemble
