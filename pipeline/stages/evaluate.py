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
from pipeline.config import Config
from pipeline.data.store import open_store
from pipeline.ensemble.folder import Member, read_ensemble
from pipeline.ensemble.judge import judge, to_track, write_answers
from pipeline.ensemble.maker import Maker, all_trained
from pipeline.ensemble.named import named_run
from pipeline.ensemble.predictions import FOLDER, Images, all_images, probabilities, validation_images
from pipeline.ensemble.responses import responses_of
from pipeline.learn.training.precision import uses_cuda
from pipeline.tracking.registry import add_test_metrics
from pipeline.tracking.store import locate
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)


def run(config: Config, workspace: Workspace) -> None:
    store, runs = open_store(workspace.store(config.data.name)), Path(config.paths.runs)
    location = locate(config.tracking.uri, config.paths.mlruns)
    ensemble = read_ensemble(workspace.ensemble, store.manifest.content_hash)
    nets = list(zip(ensemble.members, ensemble.weights(workspace.ensemble), strict=True))
    trained = workspace.result("train").is_file()
    if trained:
        nets.append(named_run(workspace.result("train"), runs, location))
    else:
        print(
            f"no run was trained by the train stage ({workspace.shown(workspace.result('train'))} is not there): the ensemble is tested alone"
        )
    images = all_images("test", store, store.test(), config.evaluation)
    device = torch.device("cuda" if uses_cuda(config.trainer.accelerator) else "cpu")
    maker = Maker(store=store, location=location, runs=runs, device=device, workers=config.data.workers)
    with TemporaryDirectory(dir=runs) as folder:
        if config.evaluation.runs == "all":
            known = {member.checkpoint_sha256 for member, _ in nets}
            others = [net for net in all_trained(maker, known, Path(folder)) if _can_be_shown(net, images)]
            nets += [(net, Path(folder) / net.weights) for net in others]
        said = [probabilities(path, images, runs / FOLDER, device, maker.workers) for _, path in nets]
        responses = _responses(maker, nets)
    answers = [(net, p) for (net, _), p in zip(nets, said, strict=True)]
    members, named = said[: ensemble.size], answers[ensemble.size] if trained else None
    result = judge(ensemble, members, named, images, answers[ensemble.size + trained :])
    write_json(workspace.result("evaluate"), result)
    write_json(workspace.scalars("evaluate"), scalars(result))
    write_answers(ensemble, members, images, workspace.result("evaluate").with_name("confusion.csv"))
    write_json(workspace.result("responses"), responses)
    for problem in add_test_metrics(location, to_track(result, ensemble)):
        log.warning("a test error is in %s but not in MLflow: %s", workspace.result("evaluate"), problem)
    show(result)


def _can_be_shown(net: Member, images: Images) -> bool:
    """Whether a net outside the ensemble takes these views; said where it does not."""
    whole = images.evaluation.views == "multi_scale" and images.store.manifest.format == "shards"
    if whole and net.model.startswith(("AlexNet", "VGG")):
        print(f"{net.model} {net.key} is left out: it has no fully convolutional form to show whole images to")
        return False
    return True


def _responses(maker: Maker, nets: Sequence[tuple[Member, Path]]) -> list[dict[str, Any]]:
    """What the layers of each net answer to validation images, for the report's Fig. 7; each net once."""
    images, found = validation_images(maker.store), []
    for member, path in {net.checkpoint_sha256: (net, path) for net, path in nets}.values():
        said = responses_of(path, images, maker.device, maker.workers or os.cpu_count() or 1)
        named = ("run_id", "key", "model", "depth", "residual", "seed", "snapshot")
        facts = {key: getattr(member, key) for key in named}
        if said is not None:
            found.append({**facts, **asdict(said)})
    return found


def scalars(result: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """What `dvc exp show` compares of evaluate.json: errors of the named run and the ensemble, and what averaging gains."""
    average, errors = result["ensemble"], ("val_err1", "test_err1", "test_err5")
    gain = average["difference_to_best_member"]["estimate"]
    nets = {"run": result["run"]} if result["run"] else {}
    found = {name: {key: net[key] for key in errors} for name, net in {**nets, "ensemble": average}.items()}
    return {**found, "gain": {"test_err1": gain}}


def show(result: dict) -> None:
    """Test errors on stdout, in percent."""
    average = result["ensemble"]
    compared = average["difference_to_best_member"]["checkpoint_sha256"]
    best = next(member for member in result["members"] if member["checkpoint_sha256"] == compared)
    named = [("named run", result["run"])] if result["run"] else []
    for net in result["others"]:
        print(f"{net['model']}, seed {net['seed']}: test error {100 * net['test_err1']:.2f} %")
    for name, net in (*named, ("best member", best), (f"ensemble of {average['size']}", average)):
        low, high = (100 * bound for bound in net["ci95"])
        print(f"{name}: test error {100 * net['test_err1']:.2f} % (95 % interval {low:.2f} to {high:.2f})")
