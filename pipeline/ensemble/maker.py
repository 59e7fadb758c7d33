"""From MLflow's candidates to nets that can be asked: their weights, what they say of images, what is known of them."""

from __future__ import annotations

import math
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.data.store import Store
from pipeline.ensemble.folder import Member
from pipeline.ensemble.members import Candidate, all_finished, fetch_weights
from pipeline.ensemble.predictions import FOLDER, Images, kept, probabilities
from pipeline.run.weights import load_weights
from pipeline.tracking.store import Location


@dataclass(frozen=True, kw_only=True)
class Maker:
    """What members are made from, and where what they say is kept."""

    store: Store
    location: Location
    runs: Path  # folder of all runs, paths.runs
    device: torch.device
    workers: int

    def predict(self, candidate: Candidate, images: Images, folder: Path) -> NDArray[np.float32]:
        """(N, K) probabilities of a candidate; where they are not kept, of its weights, fetched into `folder`."""
        found = kept(candidate.checkpoint_sha256, images, self.runs / FOLDER)
        if found is not None:
            return found
        return probabilities(self.fetch(candidate, folder), images, self.runs / FOLDER, self.device, self.workers)

    def fetch(self, candidate: Candidate, folder: Path) -> Path:
        """The candidate's weights in `folder`, fetched if they are not there."""
        path = folder / weights_file(candidate)
        return path if path.exists() else fetch_weights(candidate, self.location, self.runs, path)


def all_trained(maker: Maker, but: Container[str], folder: Path) -> list[Member]:
    """Every finished training and net made elsewhere on the store's images, their weights fetched into `folder`.

    Args:
        but: checkpoints, by their sha256, that are left out.
    """
    manifest, found = maker.store.manifest, []
    of = (maker.location, manifest.name, manifest.content_hash)
    for candidate in all_finished(*of):
        if candidate.checkpoint_sha256 not in but:
            maker.fetch(candidate, folder)
            found.append(member_of(candidate, folder))
    return found


def member_of(candidate: Candidate, folder: Path, weight: float | None = None, temperature: float = 1.0) -> Member:
    """A candidate whose weights lie in `folder`, see `Member` for the rest."""
    record = load_weights(folder / weights_file(candidate))[1]
    return Member(
        run_id=candidate.run_id,
        key=candidate.key,
        model=candidate.model,
        depth=candidate.depth,
        residual=candidate.residual,
        lr=candidate.lr,
        seed=candidate.seed,
        steps=candidate.steps,
        params=record.params,
        macs=record.macs,
        weight=weight,
        val_err1=candidate.val_err1 if math.isfinite(candidate.val_err1) else None,
        checkpoint_sha256=candidate.checkpoint_sha256,
        weights=weights_file(candidate),
        num_train=candidate.num_train,
        start=candidate.start,
        snapshot=candidate.snapshot,
        recipe=candidate.recipe,
        temperature=temperature,
    )


def weights_file(candidate: Candidate) -> str:
    """Of the candidate, below a folder of weights."""
    return f"weights/{candidate.checkpoint_sha256}.safetensors"
