"""Members: the trained nets that MLflow has, and their weights."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.atomic import read_json, replacing, sha256
from pipeline.config import Config
from pipeline.data.facts import boxed, require_settings
from pipeline.data.store import Store, open_store
from pipeline.ensemble.predictions import FOLDER, Images, kept, probabilities
from pipeline.errors import MissingError, PipelineError, hint
from pipeline.learn.training.precision import uses_cuda
from pipeline.record import Net, from_json
from pipeline.run.key import code_version
from pipeline.run.weights import BEST, weights_name
from pipeline.tracking import registry, shipper
from pipeline.tracking.location import Location, command, locate

log = logging.getLogger(__name__)

SPLIT = "holdout"  # the only split with images to choose on
LISTED = 8  # runs in the error about a missing one


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where nets come from, and where their predictions are cached."""

    store: Store
    location: Location
    runs: Path  # folder of all runs, paths.runs
    device: torch.device
    workers: int  # threads that decode JPEGs

    @classmethod
    def configured(cls, config: Config, store: Path) -> Source:
        """The source that a configuration names.

        Args:
            store: folder that preprocess made.
        Raises:
            PipelineError: trainer.accelerator=gpu without a GPU, or a store that was made with other values of data.*.
        """
        opened = open_store(store)
        require_settings(opened, config.data)
        return cls(
            store=opened,
            location=locate(config.tracking.uri, config.paths.mlruns),
            runs=Path(config.paths.runs),
            device=torch.device("cuda" if uses_cuda(config.trainer.accelerator) else "cpu"),
            workers=config.data.decoders,
        )

    def candidates(self) -> list[Net]:
        """Every finished training on the holdout split of the store's images, best validation error first.

        Runs of data.split=full are no candidates, since they trained on the validation images; nor are trials that a
        sweep's scheduler stopped, since they did not follow their recipe to the end; nor are the trials of a shortened
        search (sweep.search), whatever their depth and error, since the experiment's nets train longer; nor are runs
        that the present code, or else newer code, has repeated, which would count one net twice.

        Raises:
            PipelineError: MLflow has no such run.
        """
        nets = self._nets(SPLIT)
        if not nets:
            raise PipelineError(
                f"MLflow at {self.location.uri} has no finished training of {self._data}, split {SPLIT}; make some with "
                f"{hint('sweep')}, restore deleted ones with {hint('sync')}, or correct tracking.uri"
            )
        return nets

    def finished(self) -> list[Net]:
        """The candidates, if any, then the nets that trained on the validation images too, which can only be tested.

        Trials of a shortened search, and runs that other code has repeated, are left out here too.
        """
        return [*self._nets(SPLIT), *self._nets("full")]

    def listed(self, names: Iterable[str]) -> list[Net]:
        """The finished nets with these keys or MLflow ids, in this order, of either split and any version of the code.

        Raises:
            PipelineError: no finished run has a name, or two names are of one run.
        """
        nets = [net for split in (SPLIT, "full") for net in self._nets(split, every_version=True)]
        by_name = {name: net for net in nets for name in (net.key, net.run_id)}
        members: dict[str, Net] = {}
        for name in names:
            if name not in by_name:
                there = ", ".join(f"{net.key} ({net.name})" for net in nets[:LISTED]) or "none"
                raise PipelineError(
                    f"ensemble.members: MLflow at {self.location.uri} has no finished run {name} of {self._data}; there are "
                    f"{there}{', ...' if len(nets) > LISTED else ''}; {hint('sync')} restores deleted ones"
                )
            if by_name[name].key in members:
                raise PipelineError(f"ensemble.members lists run {by_name[name].key} twice; list it once")
            members[by_name[name].key] = by_name[name]
        return list(members.values())

    def named(self, summary: Path) -> Net | None:
        """The net of the train stage; None where that stage has not run.

        Args:
            summary: what the train stage published.
        Raises:
            MissingError: the run's folder, which has the weights, is not in `runs`.
            PipelineError: the net was trained on another store.
        """
        if not summary.is_file():
            return None
        net, content_hash = from_json(read_json(summary, f"run {hint('train')}")), self.store.manifest.content_hash
        if net.data != content_hash:
            raise PipelineError(
                f"{summary} is of a training on data {net.data[:12]}, but the store holds {content_hash[:12]}; run "
                f"{hint('train')}, or delete the file to test the ensemble alone"
            )
        folder = self.runs / net.key
        if not (folder / BEST).is_file():
            raise MissingError(
                f"{folder} lacks the weights of run {net.key}, which {summary.name} names; run {hint('train')}, "
                "or point paths.runs (PIPELINE_RUNS) at the folder where it was trained"
            )
        return replace(net, run_id=shipper.run_id(folder, self.location) or "")

    def _nets(self, split: str, *, every_version: bool = False) -> list[Net]:
        manifest = self.store.manifest
        current = code_version(boxed(manifest))
        return registry.trained_nets(
            self.location, manifest.name, manifest.content_hash, split, current=current, every_version=every_version
        )

    @property
    def _data(self) -> str:
        return f"data set {self.store.manifest.name} (content {self.store.manifest.content_hash[:12]})"

    def predict(self, net: Net, images: Images, folder: Path) -> NDArray[np.float32]:
        """(N, K) probabilities, memory-mapped; the weights are fetched into `folder` if these are not cached."""
        values = kept(net.checkpoint_sha256, images, self.runs / FOLDER)
        return self.probabilities(self.fetch(net, folder), images) if values is None else values

    def probabilities(self, weights: Path, images: Images) -> NDArray[np.float32]:
        """`predictions.probabilities` on this source's device, cached beside its runs."""
        return probabilities(weights, images, self.runs / FOLDER, self.device, self.workers)

    def fetch(self, net: Net, folder: Path) -> Path:
        """The net's weights below `folder`: from there, from its run's folder or from MLflow, whichever first has them whole.

        A file that has changed since its training is named on stderr.

        Raises:
            MissingError: neither the run's folder nor MLflow has them.
            PipelineError: MLflow's file is not the one that the run reported.
        """
        path, local = folder / weights_file(net), self.runs / net.key / weights_name(net)
        if not _is_whole(path, net):
            with replacing(path) as part:
                if _is_whole(local, net):
                    shutil.copyfile(local, part)
                else:
                    self._download(net, local, part)
        return path

    def _download(self, net: Net, local: Path, part: Path) -> None:
        folder = part.with_suffix(".download")
        delete = command(self.location, f"runs delete --run-id {net.run_id}")
        remedy = f"{delete} takes it out of the candidates; or remove {local.parent}, if it exists, and train it again"
        try:
            file = registry.download(self.location, net.run_id, f"checkpoints/{weights_name(net)}", folder)
            file.rename(part)
        except FileNotFoundError as error:
            raise MissingError(f"{local} is missing or changed, and {error}; {remedy}") from None
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        digest = sha256(part)
        if digest != net.checkpoint_sha256:
            raise PipelineError(
                f"the weights of run {net.run_id} in MLflow have sha256 {digest[:12]}, the run reported "
                f"{net.checkpoint_sha256[:12]}; {remedy}"
            )


def _is_whole(path: Path, net: Net) -> bool:
    if not path.is_file():
        return False
    whole = sha256(path) == net.checkpoint_sha256
    if not whole:
        log.warning("%s is not the file that run %s reported; another copy is used", path, net.key)
    return whole


def weights_file(net: Net) -> str:
    """Path of a net's weights below a folder of several nets."""
    return f"weights/{net.checkpoint_sha256}.safetensors"
