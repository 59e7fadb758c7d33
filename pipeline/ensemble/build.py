"""From MLflow's runs to a published, registered ensemble."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import replacing
from pipeline.config import EnsembleConfig
from pipeline.ensemble import selection
from pipeline.ensemble.averages import averages
from pipeline.ensemble.folder import Ensemble, Member
from pipeline.ensemble.maker import Maker, member_of
from pipeline.ensemble.members import SPLIT, Candidate, find_members, listed_members
from pipeline.ensemble.predictions import Images, validation_images
from pipeline.ensemble.register import register
from pipeline.ensemble.temperature import fitted_temperature, tempered
from pipeline.evaluation.errors import top_k_error

POOL = 50  # greedy looks at no more candidates than this, the best by validation error


def build_ensemble(maker: Maker, config: EnsembleConfig, out: Path, tags: dict[str, str]) -> Ensemble:
    """Finds, chooses, averages, registers in MLflow and publishes in `out`, which appears whole or not at all.

    Selection sees validation images alone; of members that the user has listed, those that were trained on these images
    have no validation error, nor has an average with them. The same members with the same weights are the same MLflow run and the same
    version of the registered model.

    Args:
        tags: of the MLflow run: lineage.
    Raises:
        FileNotFoundError, ValueError: as `find_members`, `listed_members`, `fetch_weights` and `register`; a temperature is
            asked for of members that have seen the validation images.
    """
    manifest = maker.store.manifest
    of = (maker.location, manifest.name, manifest.content_hash)
    candidates = listed_members(*of, config.members) if config.selection == "listed" else find_members(*of)
    _require_unseen(candidates, config)
    images = validation_images(maker.store)
    with replacing(out) as part:
        chosen = choose(maker, config, candidates, images, part)
        for candidate, _ in chosen:
            maker.fetch(candidate, part)
        predicted = [maker.predict(candidate, images, part) for candidate, _ in chosen]
        temperatures = [_temperature(values, images.labels, config) for values in predicted]
        members = [
            member_of(candidate, part, weight, temperature)
            for (candidate, weight), temperature in zip(chosen, temperatures, strict=True)
        ]
        _keep(part, members, predicted)
        unseen = [all(member.val_err1 is not None for member in members[: k + 1]) for k in range(len(members))]
        means = zip(unseen, averages(members, predicted), strict=True)
        by_size = [top_k_error(mean, images.labels, 1) if fair else None for fair, mean in means]
        ensemble = Ensemble(
            selection=config.selection,
            wanted=config.size,
            size=len(members),
            data=manifest.name,
            content_hash=manifest.content_hash,
            split=SPLIT,
            val_err1=by_size[-1],
            val_err1_by_size=by_size,
            members=members,
            registered=register(maker.location, config.selection, members, by_size[-1], images, part, tags),
        )
        ensemble.write(part)
    return ensemble


def choose(
    maker: Maker, config: EnsembleConfig, candidates: list[Candidate], images: Images, folder: Path
) -> list[tuple[Candidate, float]]:
    """The candidates that config.selection takes, and what each weighs in the average.

    Args:
        candidates: best validation error first; of selection "listed" the members.
        folder: for the weights of those that must be asked what they say of the images.
    """
    if config.selection == "listed":
        return [(candidate, 1 / len(candidates)) for candidate in candidates]
    if config.selection == "snapshots":
        return _snapshots(maker, config, candidates, images, folder)
    errors, nets = [candidate.val_err1 for candidate in candidates], [candidate.net for candidate in candidates]
    if config.selection == "top_k":
        choice = selection.top_k(errors, config.size)
    elif config.selection == "best_per_depth":
        choice = selection.best_per_depth(errors, nets, config.size)
    elif config.selection == "deepest_twice":
        choice = selection.deepest_twice(errors, nets, config.size)
    elif config.selection == "one_net":
        choice = selection.one_net(errors, [candidate.training for candidate in candidates], config.size)
    else:
        said = [maker.predict(candidate, images, folder) for candidate in candidates[:POOL]]
        pool = [tempered(values, _temperature(values, images.labels, config)) for values in said]
        choice = selection.greedy(pool, images.labels, config.size)
    return [(candidates[i], weight) for i, weight in choice]


def _require_unseen(candidates: list[Candidate], config: EnsembleConfig) -> None:
    seen = [candidate.key for candidate in candidates if not math.isfinite(candidate.val_err1)]
    if seen and config.temperature == "validation":
        raise ValueError(
            f"ensemble.temperature=validation with members that were trained on the validation images ({', '.join(seen)}): "
            "how sure they are of them says nothing; use ensemble.temperature=none"
        )


def _snapshots(
    maker: Maker, config: EnsembleConfig, candidates: list[Candidate], images: Images, folder: Path
) -> list[tuple[Candidate, float]]:
    """The last snapshots of the best run that has any: later ones are of better nets (Huang et al. 2017, Sec. 3)."""
    found = next((candidate.snapshots for candidate in candidates if candidate.snapshots), None)
    if found is None:
        raise ValueError(
            "ensemble=snapshots, and no finished run left any; train one whose learning rate starts anew "
            "(recipe=cifar_snapshots, or recipe.schedule=cosine recipe.cycles=6)"
        )
    last = found[-config.size :]
    errors = [top_k_error(maker.predict(snapshot, images, folder), images.labels, 1) for snapshot in last]
    return [(replace(s, val_err1=error), 1 / len(last)) for s, error in zip(last, errors, strict=True)]


def _temperature(values: NDArray[np.float32], labels: NDArray[np.int64], config: EnsembleConfig) -> float:
    return fitted_temperature(values, labels) if config.temperature == "validation" else 1.0


def _keep(folder: Path, members: list[Member], predicted: list[NDArray[np.float32]]) -> None:
    """Leaves the members' weights in the folder, and puts their probabilities beside them."""
    wanted = {folder / member.weights for member in members}
    for path in (folder / "weights").iterdir():
        if path not in wanted:
            path.unlink()
    (folder / "val_probabilities").mkdir()
    for member, values in zip(members, predicted, strict=True):
        np.save(folder / "val_probabilities" / f"{member.checkpoint_sha256}.npy", values)
