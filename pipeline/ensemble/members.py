"""Members: the trained runs that MLflow knows of, and their weights."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing, sha256
from pipeline.record import from_json
from pipeline.run.weights import BEST, snapshot_name
from pipeline.tracking import registry
from pipeline.tracking.setting import setting
from pipeline.tracking.store import (
    ADOPTED,
    CHECKPOINT_TAG,
    KEY_TAG,
    KIND_TAG,
    NET_TAG,
    SNAPSHOT_TAG,
    SPLIT_TAG,
    Location,
)

log = logging.getLogger(__name__)

SPLIT = "holdout"  # the only split with images to choose on
SHOWN = 8  # runs, in a sentence about another that is not there


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A finished training, or a net made elsewhere, that may join an ensemble. Errors are fractions."""

    run_id: str  # in MLflow
    key: str
    model: str  # for example resnet56
    depth: int
    residual: bool
    lr: float | None  # None: made elsewhere
    seed: int | None
    steps: int  # of the training, not of the checkpoint that was kept; 0: made elsewhere
    val_err1: float  # infinite for a net that has seen the validation images
    checkpoint_sha256: str
    tags: Mapping[str, str]
    num_train: int = 0  # images it was trained on; 0 for all of the split
    start: str = ""  # what it started from, "" for random weights
    snapshot: int = 0  # step of the snapshot that this is; 0 for the weights that the run chose
    recipe: str = ""  # see `recipe_of`

    @property
    def file(self) -> str:
        """Of the weights, in the run's folder and among its artifacts."""
        return snapshot_name(self.snapshot) if self.snapshot else BEST

    @property
    def snapshots(self) -> list[Candidate]:
        """What the run's cycles left behind, in their order; validation errors are still those of the run."""
        prefix = len(SNAPSHOT_TAG)
        steps = sorted(int(tag[prefix:]) for tag in self.tags if tag.startswith(SNAPSHOT_TAG))
        return [
            replace(self, snapshot=step, steps=step, checkpoint_sha256=self.tags[f"{SNAPSHOT_TAG}{step}"])
            for step in steps
        ]

    @property
    def net(self) -> tuple[int, bool, str]:
        """What makes two candidates the same net to `best_per_depth`: a depth of the paper's nets, or one of the others."""
        return self.depth, self.residual, "" if self.model.startswith(("ResNet", "plain")) else self.model

    @property
    def training(self) -> tuple[int, bool, str]:
        """What makes two candidates seeds of one training, to `one_net`."""
        return (
            self.depth,
            self.residual,
            f"{self.model} {self.num_train} {self.start} {self.lr} {self.steps} {self.recipe}",
        )


def find_members(location: Location, experiment: str, content_hash: str) -> list[Candidate]:
    """Every finished training on the holdout split of the same images, best validation error first.

    A run of data.split=full saw the validation images, a trial that a sweep's scheduler stopped early was not trained
    as its recipe says: neither is a candidate.

    Args:
        experiment: MLflow's, named after the data set.
        content_hash: of the store.
    Raises:
        ValueError: MLflow knows of no such run.
    """
    found = _by_key(registry.trained_runs(location, experiment, content_hash, SPLIT))
    if not found:
        raise ValueError(
            f"MLflow at {location.uri} holds no finished training of data set {experiment} (content {content_hash[:12]}, "
            f"split {SPLIT}); make some with `dvc repro -f sweep` or `dvc repro -f train` (data.split={SPLIT}), "
            "or correct tracking.uri"
        )
    return found


def listed_members(location: Location, experiment: str, content_hash: str, names: Iterable[str]) -> list[Candidate]:
    """The finished trainings and adopted nets of these keys or ids, in their order, whatever images they have seen.

    Raises:
        ValueError: a name that no such run has, or two names of one run.
    """
    known = all_finished(location, experiment, content_hash)
    by_name = {name: candidate for candidate in known for name in (candidate.key, candidate.run_id)}
    found: dict[str, Candidate] = {}
    for name in names:
        if name not in by_name:
            there = ", ".join(f"{c.key} ({c.model})" for c in known[:SHOWN]) or "none"
            raise ValueError(
                f"ensemble.members: MLflow at {location.uri} has no finished run {name} of data set {experiment} (content "
                f"{content_hash[:12]}); there are {there}{', ...' if len(known) > SHOWN else ''}"
            )
        if by_name[name].key in found:
            raise ValueError(f"ensemble.members lists run {by_name[name].key} twice; once is enough")
        found[by_name[name].key] = by_name[name]
    return list(found.values())


def all_finished(location: Location, experiment: str, content_hash: str) -> list[Candidate]:
    """Those that `find_members` and `on_all_images` give; there may be none."""
    chosen = _by_key(registry.trained_runs(location, experiment, content_hash, SPLIT))
    return [*chosen, *on_all_images(location, experiment, content_hash)]


def on_all_images(location: Location, experiment: str, content_hash: str) -> list[Candidate]:
    """Finished trainings, and nets made elsewhere, that have seen the validation images too: they may be tested, no more."""
    return _by_key(registry.trained_runs(location, experiment, content_hash, "full"))


def _by_key(runs: Iterable[Any]) -> list[Candidate]:
    found: dict[str, Candidate] = {}
    for candidate in filter(None, map(_candidate, runs)):
        found.setdefault(candidate.key, candidate)
    return list(found.values())


def fetch_weights(candidate: Candidate, location: Location, runs: Path, out: Path) -> Path:
    """Writes the candidate's weights to `out`, from its run's folder or, where that is gone or changed, from MLflow.

    Args:
        runs: folder of all runs, paths.runs.
    Raises:
        FileNotFoundError: in neither place.
        ValueError: MLflow's file is not the one that the run reported.
    """
    local = runs / candidate.key / candidate.file
    with replacing(out) as part:
        if local.is_file() and sha256(local) == candidate.checkpoint_sha256:
            shutil.copyfile(local, part)
        else:
            _download(candidate, location, runs, part)
    return out


def _download(candidate: Candidate, location: Location, runs: Path, part: Path) -> None:
    folder = part.with_suffix(".download")
    remedy = f"`mlflow runs delete --run-id {candidate.run_id}` takes it out of the choice, or train it again"
    try:
        try:
            found = registry.download(location, candidate.run_id, f"checkpoints/{candidate.file}", folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{runs / candidate.key / candidate.file} is missing or changed, and {error}; {remedy}"
            ) from None
        found.rename(part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    held = sha256(part)
    if held != candidate.checkpoint_sha256:
        raise ValueError(
            f"the weights that MLflow holds of run {candidate.run_id} have sha256 {held[:12]}, the run reported "
            f"{candidate.checkpoint_sha256[:12]}; {remedy}"
        )


def started(params: Mapping[str, Any]) -> str:
    """What a run started from, as the report calls it: "" for random weights."""
    weights = params.get("start.weights", "")
    if not weights:
        return ""
    share = float(params["start.backbone_lr"])
    slower = ", frozen" if share == 0 else f", backbone at {share:g} of the rate" if share != 1 else ""
    path = Path(weights)
    # Each run's weights are called alike: its folder tells them apart.
    name = f"{path.parent.name}/{path.name}" if path.name == BEST else path.name
    return name + slower + (", with its head" if params.get("start.head") == "kept" else "")


def recipe_of(params: Mapping[str, Any]) -> str:
    """Alike for runs that were trained alike, see `pipeline.tracking.setting`."""
    return hashlib.sha256(json.dumps(setting(params)).encode()).hexdigest()[:12]


def _candidate(run: Any) -> Candidate | None:
    params, tags = run.data.params, run.data.tags
    adopted = tags.get(KIND_TAG) == ADOPTED
    try:
        net = (params["model.family"], int(params["model.depth"]), params["model.residual"] == "True")
        return Candidate(
            run_id=run.info.run_id,
            key=tags[KEY_TAG],
            model=from_json(json.loads(tags[NET_TAG])).name,
            depth=net[1],
            residual=net[2],
            lr=None if adopted else float(params["recipe.lr"]),
            seed=None if adopted else int(params["seed"]),
            steps=0 if adopted else int(params["recipe.max_steps"]),
            val_err1=math.inf if tags[SPLIT_TAG] == "full" else run.data.metrics["best/err1"],
            num_train=int(params.get("data.num_train", 0)),  # runs of earlier versions lack the key
            start=started(params),
            recipe=recipe_of(params),
            checkpoint_sha256=tags[CHECKPOINT_TAG],
            tags=tags,
        )
    except KeyError as error:
        log.warning("run %s in MLflow has no param %s and is left out", run.info.run_id, error)
        return None
