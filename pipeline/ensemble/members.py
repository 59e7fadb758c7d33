"""Members: the trained nets that MLflow has, and their weights."""

from __future__ import annotations

import shutil
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.atomic import read_json, replacing, sha256
from pipeline.data.store import Store
from pipeline.ensemble.predictions import FOLDER, Images, kept, probabilities
from pipeline.record import Net, from_json
from pipeline.run.weights import BEST, weights_name
from pipeline.tracking import registry, shipper
from pipeline.tracking.location import Location

SPLIT = "holdout"  # the only split with images to choose on
LISTED = 8  # runs, in an error about another that MLflow does not have


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where nets come from, and where their predictions are kept."""

    store: Store
    location: Location
    runs: Path  # folder of all runs, paths.runs
    device: torch.device
    workers: int

    def candidates(self) -> list[Net]:
        """Every finished training on the holdout split of the store's images, best validation error first.

        A run of data.split=full saw the validation images, a trial that a sweep's scheduler stopped early was not
        trained as its recipe says: neither is a candidate.

        Raises:
            ValueError: MLflow has no such run.
        """
        manifest = self.store.manifest
        nets = self._nets(SPLIT)
        if not nets:
            raise ValueError(
                f"MLflow at {self.location.uri} holds no finished training of data set {manifest.name} (content "
                f"{manifest.content_hash[:12]}, split {SPLIT}); make some with `dvc repro -f sweep` or `dvc repro -f train` "
                f"(data.split={SPLIT}), or correct tracking.uri"
            )
        return nets

    def finished(self) -> list[Net]:
        """The candidates, then the nets that were trained on the validation images too; there may be none.

        The latter may be tested, not chosen.
        """
        return [*self._nets(SPLIT), *self._nets("full")]

    def listed(self, names: Iterable[str]) -> list[Net]:
        """The finished nets of these keys or MLflow ids, in their order, whatever images they were trained on.

        Raises:
            ValueError: a name that no such run has, or two names of one run.
        """
        nets = self.finished()
        by_name = {name: net for net in nets for name in (net.key, net.run_id)}
        members: dict[str, Net] = {}
        for name in names:
            if name not in by_name:
                there = ", ".join(f"{net.key} ({net.name})" for net in nets[:LISTED]) or "none"
                raise ValueError(
                    f"ensemble.members: MLflow at {self.location.uri} has no finished run {name} of data set "
                    f"{self.store.manifest.name} (content {self.store.manifest.content_hash[:12]}); there are "
                    f"{there}{', ...' if len(nets) > LISTED else ''}"
                )
            if by_name[name].key in members:
                raise ValueError(f"ensemble.members lists run {by_name[name].key} twice; once is enough")
            members[by_name[name].key] = by_name[name]
        return list(members.values())

    def others(self, checkpoints: Container[str]) -> list[Net]:
        """Every finished net but those with these checkpoints (sha256)."""
        return [net for net in self.finished() if net.checkpoint_sha256 not in checkpoints]

    def _nets(self, split: str) -> list[Net]:
        manifest = self.store.manifest
        return registry.trained_nets(self.location, manifest.name, manifest.content_hash, split)

    def predict(self, net: Net, images: Images, folder: Path) -> NDArray[np.float32]:
        """(N, K) probabilities, memory-mapped; where they are not kept, of the weights, fetched into `folder`."""
        values = kept(net.checkpoint_sha256, images, self.runs / FOLDER)
        if values is not None:
            return values
        return probabilities(self.fetch(net, folder), images, self.runs / FOLDER, self.device, self.workers)

    def fetch(self, net: Net, folder: Path) -> Path:
        """The net's weights below `folder`, fetched if they are not there.

        Raises:
            FileNotFoundError: neither the run's folder nor MLflow has them.
            ValueError: MLflow's file is not the one that the run reported.
        """
        path = folder / weights_file(net)
        return path if path.exists() else fetch_weights(net, self.location, self.runs, path)


def named_run(summary: Path, runs: Path, location: Location) -> Net:
    """The net that the train stage made.

    Args:
        summary: what the train stage published.
        runs: folder of all runs, paths.runs, which must hold the weights.
        location: MLflow, where the run is looked up; its id is "" while it is not there.
    Raises:
        FileNotFoundError: no summary, or the run's folder lies on another machine.
    """
    if not summary.is_file():
        raise FileNotFoundError(f"{summary} is missing; `dvc repro train` makes it")
    net = from_json(read_json(summary))
    if not (runs / net.key / BEST).is_file():
        raise FileNotFoundError(
            f"{runs / net.key} does not hold run {net.key} of {summary.name} with its weights; run `dvc repro -f train`, "
            "or point paths.runs (PIPELINE_RUNS) at the folder where it was trained"
        )
    return replace(net, run_id=shipper.run_id(runs / net.key, location) or "")


def weights_file(net: Net) -> str:
    """Path of a net's weights below a folder of several nets."""
    return f"weights/{net.checkpoint_sha256}.safetensors"


def fetch_weights(net: Net, location: Location, runs: Path, out: Path) -> Path:
    """Writes the net's weights to `out`, from its run's folder or, where that is gone or changed, from MLflow."""
    local = runs / net.key / weights_name(net)
    with replacing(out) as part:
        if local.is_file() and sha256(local) == net.checkpoint_sha256:
            shutil.copyfile(local, part)
        else:
            _download(net, location, local, part)
    return out


def _download(net: Net, location: Location, local: Path, part: Path) -> None:
    folder = part.with_suffix(".download")
    remedy = f"`mlflow runs delete --run-id {net.run_id}` takes it out of the choice, or train it again"
    try:
        try:
            file = registry.download(location, net.run_id, f"checkpoints/{weights_name(net)}", folder)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{local} is missing or changed, and {error}; {remedy}") from None
        file.rename(part)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    held = sha256(part)
    if held != net.checkpoint_sha256:
        raise ValueError(
            f"the weights that MLflow holds of run {net.run_id} have sha256 {held[:12]}, the run reported "
            f"{net.checkpoint_sha256[:12]}; {remedy}"
        )
