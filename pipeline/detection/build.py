"""From MLflow's runs to a published, registered ensemble of detectors.

The folder is that of `pipeline.ensemble.build`, without probabilities.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from time import monotonic

import numpy as np

from pipeline.atomic import replacing
from pipeline.config import EnsembleConfig
from pipeline.data.store import ArrayRecords
from pipeline.detection.card import card
from pipeline.detection.detect import FOLDER, Scenes, detect, validation_scenes
from pipeline.ensemble import selection
from pipeline.ensemble.build import Ensemble, tracked_run
from pipeline.ensemble.card import NAME as CARD
from pipeline.ensemble.members import Source
from pipeline.ensemble.register import register
from pipeline.learn.input.scenes import decoded


def build_ensemble(source: Source, config: EnsembleConfig, out: Path, tags: dict[str, str]) -> Ensemble:
    """Chooses members by their AP on validation images, measures them as one, registers the model in MLflow and publishes
    `out`, whole or not at all.

    Members are equal. Their detections on validation images choose nothing further. The same members give the same MLflow run and the
    same version of the registered model.

    Args:
        tags: lineage, for the MLflow run.
    Raises:
        PipelineError: no candidates or weights (see `Source`).
    """
    began, manifest = monotonic(), source.store.manifest
    listed = config.selection == "listed"
    candidates = source.listed(config.members) if listed else source.candidates()
    members = candidates if listed else selection.RULES[config.selection](candidates, config.size)
    members = [replace(net, weight=1 / len(members)) for net in members]
    scenes = validation_scenes(source.store)
    with replacing(out) as part:
        files = [source.fetch(net, part) for net in members]
        joint = detect(files, scenes, source.runs / FOLDER, source.device)
        unseen = all(net.val_err1 is not None for net in members)
        val_err1 = 1 - (scenes.matches(joint).scores().ap or 0.0) if unseen else None
        run_id = tracked_run(source, config, members, val_err1, tags, began)
        ensemble = Ensemble(
            selection=config.selection,
            wanted=config.size,
            data=manifest.name,
            content_hash=manifest.content_hash,
            val_err1=val_err1,
            val_err1_by_size=[*([None] * (len(members) - 1)), val_err1],
            members=members,
            registered=register(source.location, run_id, members, source.store, _example(scenes), part),
        )
        ensemble.write(part)
        (part / CARD).write_text(card(ensemble, manifest), encoding="utf-8")
    return ensemble


def _example(scenes: Scenes) -> np.ndarray:
    """(1, H, W, C) uint8: the first image as the store has it."""
    records, index = scenes.records, int(scenes.indices[0])
    if isinstance(records, ArrayRecords):
        return np.array(records.images[index])[None]
    return decoded(records.jpeg(index))[None]
