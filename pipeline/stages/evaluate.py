"""evaluate: test errors of the ensemble, its members, the named run and, if asked for, all other runs.

Only this stage reads the test images.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing, scratch_folder, write_json
from pipeline.config import NO_GLOBAL_POOL, Config
from pipeline.ensemble.alternatives import alternatives
from pipeline.ensemble.build import Ensemble, read_ensemble
from pipeline.ensemble.card import NAME as CARD
from pipeline.ensemble.card import card
from pipeline.ensemble.judge import judge, to_track, write_answers
from pipeline.ensemble.members import Source
from pipeline.ensemble.mistakes import confident_mistakes
from pipeline.ensemble.predictions import Images, evaluation_images, validation_images
from pipeline.ensemble.register import ensemble_key
from pipeline.ensemble.responses import responses_of
from pipeline.errors import first_line, hint
from pipeline.record import Net, best_on_validation, from_json
from pipeline.tracking.location import require_answer
from pipeline.tracking.models import describe
from pipeline.tracking.results import keep_files, keep_test_errors
from pipeline.tracking.sync import sync
from pipeline.workspace import Workspace

log = logging.getLogger(__name__)


def run(config: Config, workspace: Workspace) -> None:
    source = Source.configured(config, workspace.store(config.data.name))
    ensemble = read_ensemble(workspace.ensemble, source.store.manifest.content_hash)
    summary = workspace.result("train")
    if (named := source.named(summary)) is None:
        print(f"{workspace.shown(summary)} is missing, so there is no named run: the ensemble is tested alone")
    if config.evaluation.runs == "all":
        require_answer(source.location, "evaluation.runs=all tests every finished run in MLflow")
        sync(source.runs, source.location)
    images = evaluation_images(source.store, config.evaluation)
    with scratch_folder(source.runs / "evaluate") as folder:
        nets = [(net, source.fetch(net, workspace.ensemble)) for net in ensemble.members]
        nets += [(named, source.fetch(named, folder))] if named else []
        if config.evaluation.runs == "all":
            checkpoints = {net.checkpoint_sha256 for net, _ in nets}
            others = (net for net in source.finished() if net.checkpoint_sha256 not in checkpoints)
            nets += [(net, source.fetch(net, folder)) for net in others if _takes_views(net, images)]
        tested = [(net, source.probabilities(path, images)) for net, path in nets]
        responses = _responses(source, nets)
        all_runs = config.evaluation.runs == "all"
        ways = alternatives(source, ensemble.wanted, tested, images.labels, folder) if all_runs else []
    members = [values for _, values in tested[: ensemble.size]]
    rest = tested[ensemble.size :]
    result, average = judge(ensemble, images, members, rest.pop(0) if named else None, rest)
    result["alternatives"] = ways
    write_json(workspace.result("evaluate"), result)
    write_json(workspace.scalars("evaluate"), scalars(result), checksum=False)
    write_answers(average, images, workspace.result("evaluate").with_name("confusion.csv"))
    write_json(workspace.result("responses"), responses)
    write_json(workspace.result("mistakes"), confident_mistakes(average, images))
    with replacing(workspace.experiment / CARD) as part:
        part.write_text(card(ensemble, source.store.manifest, result), encoding="utf-8")
    keep_test_errors(source.runs, source.store.manifest.name, to_track(result, ensemble))
    publish(source, ensemble, workspace, workspace.result("evaluate").with_name("confusion.csv"))
    show(result)


def publish(source: Source, ensemble: Ensemble, workspace: Workspace, *others: Path) -> None:
    """Card, errors and other files to the ensemble's run; the card describes the registered version, too."""
    page = workspace.experiment / CARD
    files = [page, workspace.result("evaluate"), *others]
    keep_files(source.runs, ensemble_key(ensemble.members), dict.fromkeys(files, "evaluation"))
    try:
        sync(source.runs, source.location)
        model = ensemble.registered
        describe(source.location, model["name"], model["version"], page.read_text(encoding="utf-8"))
    except Exception as error:  # MLflow raises many kinds
        path = workspace.shown(workspace.result("evaluate"))
        log.warning("%s has test errors that MLflow lacks (%s); %s ships them", path, first_line(error), hint("sync"))


def _takes_views(net: Net, images: Images) -> bool:
    """Whether a net outside the ensemble takes these views; prints why not."""
    whole = images.evaluation.views == "multi_scale" and images.store.manifest.format == "shards"
    if whole and net.model.family in NO_GLOBAL_POOL:
        print(f"{net.name} {net.key} is left out: without a fully convolutional form it takes no whole images")
        return False
    return True


def _responses(source: Source, nets: Sequence[tuple[Net, Path]]) -> list[dict[str, Any]]:
    """Layer responses of each net to validation images, for the report's Fig. 7."""
    images, rows = validation_images(source.store), []
    for net, path in {
        net.checkpoint_sha256: (net, path) for net, path in nets
    }.values():  # the named run may be a member
        measured = responses_of(path, images, source.device, source.workers)
        if measured is not None:
            layers, first = measured
            facts = {"name": net.name, "run_id": net.run_id, "key": net.key, "snapshot": net.snapshot}
            rows.append({**facts, **asdict(layers), "at_start": asdict(first) if first else None})
    return rows


def scalars(result: dict[str, Any]) -> dict[str, dict[str, float | None]]:
    """What `dvc exp show` compares: errors of the named run and the ensemble, and the gain over the best member, if any.

    train.json has the named run's validation error.
    """
    average, run = result["ensemble"], result["run"]
    gain = average["difference_to_best_member"]
    return {
        **({"run": {"test_err1": run["test_err1"]}} if run else {}),
        "ensemble": {key: average[key] for key in ("val_err1", "test_err1", "test_err5")},
        "gain": {"test_err1": gain["estimate"] if gain else None},
    }


def show(result: dict[str, Any]) -> None:
    """Prints test errors in percent."""
    average = result["ensemble"]
    named = [("named run", result["run"])] if result["run"] else []
    members = [(f"member {net['name']} {net['key']}", net) for net in result["members"]]
    if (best := best_on_validation([from_json(net) for _, net in members])) is not None:
        members = [("best member", net) for _, net in members if net["checkpoint_sha256"] == best.checkpoint_sha256][:1]
    for net in result["others"]:
        print(f"{net['name']} {net['key']}: test error {100 * net['test_err1']:.2f} %")
    for name, net in (*named, *members, (f"ensemble of {average['size']}", average)):
        low, high = (100 * bound for bound in net["ci95"])
        print(f"{name}: test error {100 * net['test_err1']:.2f} % (95 % interval {low:.2f} to {high:.2f})")
