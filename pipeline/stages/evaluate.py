"""evaluate: test errors of the ensemble, its members and the named run. Only this stage reads the test images."""

from __future__ import annotations

import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from pipeline.atomic import write_json
from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.ensemble.folder import Ensemble, Member, read_ensemble
from pipeline.ensemble.judge import judge, to_track, write_answers
from pipeline.ensemble.named import named_run
from pipeline.ensemble.predictions import FOLDER, all_images, probabilities, validation_images
from pipeline.ensemble.responses import responses_of
from pipeline.tracking.registry import add_test_metrics
from pipeline.tracking.store import locate
from pipeline.training.precision import uses_cuda
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)


def run(config: Config, workspace: Workspace) -> None:
    store, runs = open_store(workspace.store(config.data.name)), Path(config.paths.runs)
    ensemble = read_ensemble(workspace.ensemble, store.manifest.content_hash)
    named, named_weights = named_run(workspace.metrics("train"), runs, locate(config.tracking.uri, config.paths.mlruns))
    images = all_images("test", store, store.test(), config.evaluation)
    device = torch.device("cuda" if uses_cuda(config.trainer.accelerator) else "cpu")
    *members, run_itself = [
        probabilities(weights, images, runs / FOLDER, device, config.data.workers)
        for weights in (*ensemble.weights(workspace.ensemble), named_weights)
    ]
    result = judge(ensemble, members, named, run_itself, images)
    write_json(workspace.metrics("evaluate"), result)
    write_answers(ensemble, members, images, workspace.metrics("evaluate").with_name("confusion.csv"))
    write_json(workspace.metrics("responses"), _responses(config, ensemble, workspace, named, named_weights, device))
    location = locate(config.tracking.uri, config.paths.mlruns)
    for problem in add_test_metrics(location, to_track(result, ensemble)):
        log.warning("a test error is in metrics/evaluate.json but not in MLflow: %s", problem)
    show(result)


def _responses(
    config: Config, ensemble: Ensemble, workspace: Workspace, named: Member, weights: Path, device: torch.device
) -> list[dict[str, Any]]:
    """What the layers of each net answer to validation images, for the report's Fig. 7; each net once."""
    images = validation_images(open_store(workspace.store(config.data.name)))
    nets = dict(zip((m.checkpoint_sha256 for m in ensemble.members), ensemble.weights(workspace.ensemble), strict=True))
    known = {member.checkpoint_sha256: member for member in (*ensemble.members, named)}
    found = []
    for sha256, path in {**nets, named.checkpoint_sha256: weights}.items():
        said = responses_of(path, images, device, config.data.workers or os.cpu_count() or 1)
        member = known[sha256]
        facts = {key: getattr(member, key) for key in ("run_id", "key", "model", "depth", "residual", "seed")}
        if said is not None:
            found.append({**facts, **asdict(said)})
    return found


def show(result: dict) -> None:
    """Test errors on stdout, in percent."""
    best, average = min(result["members"], key=lambda member: member["val_err1"]), result["ensemble"]
    for name, net in (("named run", result["run"]), ("best member", best), (f"ensemble of {average['size']}", average)):
        low, high = (100 * bound for bound in net["ci95"])
        print(f"{name}: test error {100 * net['test_err1']:.2f} % (95 % interval {low:.2f} to {high:.2f})")
