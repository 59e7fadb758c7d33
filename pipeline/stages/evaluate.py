"""evaluate: test errors of the ensemble, its members, the named run and, if asked for, every other. Only this stage reads the test images."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from pipeline.atomic import write_json
from pipeline.config import NO_GLOBAL_POOL, Config
from pipeline.data.store import open_store
from pipeline.ensemble.build import read_ensemble
from pipeline.ensemble.judge import judge, to_track, write_answers
from pipeline.ensemble.members import Source, named_run, weights_file
from pipeline.ensemble.predictions import FOLDER, Images, all_images, probabilities, validation_images
from pipeline.ensemble.responses import responses_of
from pipeline.learn.training.precision import uses_cuda
from pipeline.record import Net
from pipeline.run.weights import BEST
from pipeline.tracking.location import locate
from pipeline.tracking.registry import add_test_metrics
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)


def run(config: Config, workspace: Workspace) -> None:
    store, runs = open_store(workspace.store(config.data.name)), Path(config.paths.runs)
    location = locate(config.tracking.uri, config.paths.mlruns)
    ensemble = read_ensemble(workspace.ensemble, store.manifest.content_hash)
    nets = [(net, workspace.ensemble / weights_file(net)) for net in ensemble.members]
    trained = workspace.result("train").is_file()
    if trained:
        net = named_run(workspace.result("train"), runs, location)
        nets.append((net, runs / net.key / BEST))
    else:
        summary = workspace.shown(workspace.result("train"))
        print(f"no run was trained by the train stage ({summary} is not there): the ensemble is tested alone")
    images = all_images("test", store, store.test(), config.evaluation)
    device = torch.device("cuda" if uses_cuda(config.trainer.accelerator) else "cpu")
    source = Source(store=store, location=location, runs=runs, device=device, workers=config.data.workers)
    with TemporaryDirectory(dir=runs) as folder:
        if config.evaluation.runs == "all":
            others = source.others({net.checkpoint_sha256 for net, _ in nets})
            nets += [(net, source.fetch(net, Path(folder))) for net in others if _takes_views(net, images)]
        values = [probabilities(path, images, runs / FOLDER, device, source.workers) for _, path in nets]
        responses = _responses(source, nets)
    pairs = [(net, p) for (net, _), p in zip(nets, values, strict=True)]
    size = ensemble.size
    result, average = judge(ensemble, images, values[:size], pairs[size] if trained else None, pairs[size + trained :])
    write_json(workspace.result("evaluate"), result)
    write_json(workspace.scalars("evaluate"), scalars(result))
    write_answers(average, images, workspace.result("evaluate").with_name("confusion.csv"))
    write_json(workspace.result("responses"), responses)
    for problem in add_test_metrics(location, to_track(result, ensemble)):
        log.warning("a test error is in %s but not in MLflow: %s", workspace.result("evaluate"), problem)
    show(result)


def _takes_views(net: Net, images: Images) -> bool:
    """Whether a net outside the ensemble takes these views; prints the net that does not."""
    whole = images.evaluation.views == "multi_scale" and images.store.manifest.format == "shards"
    if whole and net.model.family in NO_GLOBAL_POOL:
        print(f"{net.name} {net.key} is left out: it has no fully convolutional form to show whole images to")
        return False
    return True


def _responses(source: Source, nets: Sequence[tuple[Net, Path]]) -> list[dict[str, Any]]:
    """What the layers of each net answer to validation images, for the report's Fig. 7; each net once."""
    images, rows = validation_images(source.store), []
    for net, path in {net.checkpoint_sha256: (net, path) for net, path in nets}.values():
        layers = responses_of(path, images, source.device, source.workers or os.cpu_count() or 1)
        if layers is not None:
            rows.append(
                {"name": net.name, "run_id": net.run_id, "key": net.key, "snapshot": net.snapshot, **asdict(layers)}
            )
    return rows


def scalars(result: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """What `dvc exp show` compares of evaluate.json: errors of the named run and the ensemble, and what averaging gains."""
    average, errors = result["ensemble"], ("val_err1", "test_err1", "test_err5")
    gain = average["difference_to_best_member"]["estimate"]
    nets = {"run": result["run"]} if result["run"] else {}
    metrics = {name: {key: net[key] for key in errors} for name, net in {**nets, "ensemble": average}.items()}
    return {**metrics, "gain": {"test_err1": gain}}


def show(result: dict) -> None:
    """Test errors on stdout, in percent."""
    average = result["ensemble"]
    compared = average["difference_to_best_member"]["checkpoint_sha256"]
    best = next(member for member in result["members"] if member["checkpoint_sha256"] == compared)
    named = [("named run", result["run"])] if result["run"] else []
    for net in result["others"]:
        print(f"{net['name']}, seed {net['seed']}: test error {100 * net['test_err1']:.2f} %")
    for name, net in (*named, ("best member", best), (f"ensemble of {average['size']}", average)):
        low, high = (100 * bound for bound in net["ci95"])
        print(f"{name}: test error {100 * net['test_err1']:.2f} % (95 % interval {low:.2f} to {high:.2f})")
