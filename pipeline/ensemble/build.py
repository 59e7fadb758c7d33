"""From MLflow's runs to a published, registered ensemble.

The ensemble's folder holds
members.json                      Ensemble
card.md                           the model card, before evaluation
served.json                       what the registered model reads beside the weights
weights/<sha256>.safetensors      of each member
val_probabilities/<sha256>.npy    (N, K) float32 of each member, on the validation images
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.atomic import read_json, replacing, write_json
from pipeline.config import EnsembleConfig
from pipeline.ensemble import selection
from pipeline.ensemble.card import NAME as CARD
from pipeline.ensemble.card import card
from pipeline.ensemble.forward import fitted_temperature, running_averages, tempered
from pipeline.ensemble.members import Source, weights_file
from pipeline.ensemble.predictions import Images, validation_images
from pipeline.ensemble.register import ensemble_key, example, register
from pipeline.errors import MissingError, PipelineError, hint
from pipeline.evaluation.errors import top_k_error
from pipeline.record import Net, from_json
from pipeline.tracking.location import DATA_TAG, NOTE_TAG, SPLIT_TAG
from pipeline.tracking.results import ensemble_run

MEMBERS = "members.json"
POOL = 50  # greedy considers this many candidates, the best by validation error


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """Members best validation error first, as listed, or snapshots in the order of their steps; their weights sum to 1."""

    selection: str
    wanted: int  # ensemble.size; MLflow may have held fewer
    data: str  # name of the data set
    content_hash: str
    val_err1: float | None  # of the average; None where a member was trained on the validation images
    val_err1_by_size: list[float | None]  # of the average of the first member, the first two, ...
    members: list[Net]
    registered: dict[str, Any]  # name, version, run_id of the model in MLflow

    @property
    def size(self) -> int:
        return len(self.members)

    def write(self, folder: Path) -> None:
        members = [net.to_json() for net in self.members]
        write_json(folder / MEMBERS, {"size": self.size, **asdict(self), "members": members})


def read_ensemble(folder: Path, content_hash: str) -> Ensemble:
    """The ensemble in `folder`.

    Raises:
        MissingError: there is none.
        PipelineError: it is of another data set, or another version of this project wrote it.
    """
    if not (folder / MEMBERS).is_file():
        raise MissingError(f"{folder / MEMBERS} is missing; {hint('ensemble')} makes it")
    values = read_json(folder / MEMBERS, f"{hint('ensemble')} makes it again")
    try:
        del values["size"]
        ensemble = Ensemble(**{**values, "members": list(map(from_json, values["members"]))})
    except (TypeError, ValueError, KeyError) as error:
        raise PipelineError(
            f"{folder / MEMBERS} was written by another version of this project ({error}); run {hint('ensemble')}"
        ) from None
    if ensemble.content_hash != content_hash:
        raise PipelineError(
            f"{folder} was made from data {ensemble.data} {ensemble.content_hash[:12]}, the store holds "
            f"{content_hash[:12]}; run {hint('ensemble')}"
        )
    return ensemble


def averages(members: Sequence[Net], predictions: Sequence[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
    """(N, K) weighted mean of the first member, of the first two, and so on to the whole ensemble.

    Args:
        predictions: (M,) arrays (N, K), each member's probabilities before its temperature applies.
    """
    pairs = zip(members, predictions, strict=True)
    calibrated = (tempered(values, net.temperature) for net, values in pairs)
    yield from running_averages(calibrated, [net.weight or 0.0 for net in members])


def build_ensemble(source: Source, config: EnsembleConfig, out: Path, tags: dict[str, str]) -> Ensemble:
    """Chooses members, averages them, registers the model in MLflow and publishes `out`, which appears whole or not at all.

    Selection uses validation images alone. Listed members that were trained on these images have no validation error,
    nor has an average with them. The same members with the same weights give the same MLflow run and the same version
    of the registered model.

    Args:
        tags: lineage, for the MLflow run.
    Raises:
        PipelineError: no candidates or weights (see `Source`), crops of different sizes (see `example`), or
            a temperature for members that were trained on the validation images.
    """
    began, manifest = monotonic(), source.store.manifest
    candidates = source.listed(config.members) if config.selection == "listed" else source.candidates()
    _require_unseen(candidates, config)
    images = validation_images(source.store)
    with replacing(out) as part:
        members = choose(source, config, candidates, images, part)
        shown = example(images, members)
        for net in members:
            source.fetch(net, part)
        predictions = [source.predict(net, images, part) for net in members]
        members = calibrated(config, members, predictions, images)
        _keep(part, members, predictions)
        by_size = _errors_by_size(members, predictions, images)
        run_id = tracked_run(source, config, members, by_size[-1], tags, began)
        ensemble = Ensemble(
            selection=config.selection,
            wanted=config.size,
            data=manifest.name,
            content_hash=manifest.content_hash,
            val_err1=by_size[-1],
            val_err1_by_size=by_size,
            members=members,
            registered=register(source.location, run_id, members, source.store, shown, part),
        )
        ensemble.write(part)
        (part / CARD).write_text(card(ensemble, manifest), encoding="utf-8")
    return ensemble


def choose(source: Source, config: EnsembleConfig, candidates: list[Net], images: Images, folder: Path) -> list[Net]:
    """The members that config.selection chooses, with their weights in the average.

    Args:
        candidates: best validation error first; for selection "listed" the members.
        images: validation images.
        folder: for the weights of nets whose predictions are not cached.
    """
    if config.selection == "greedy":
        pool = [source.predict(net, images, folder) for net in candidates[:POOL]]
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as scratch:
            if config.temperature == "validation":
                calibrated = (tempered(values, fitted_temperature(values, images.labels)) for values in pool)
                pool = [_mapped(values, Path(scratch) / f"{at}.npy") for at, values in enumerate(calibrated)]
            weighted = selection.greedy(pool, images.labels, config.size)
        return [replace(candidates[i], weight=weight) for i, weight in weighted]
    if config.selection == "listed":
        members = candidates
    elif config.selection == "snapshots":
        snapshots = _last_snapshots(candidates, config.size)
        members = [_validated(net, source.predict(net, images, folder), images) for net in snapshots]
    else:
        members = selection.RULES[config.selection](candidates, config.size)
    return [replace(net, weight=1 / len(members)) for net in members]


def _mapped(values: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    """`values` in a file: those of all candidates on all of ImageNet's validation images take gigabytes."""
    np.save(path, values)
    return np.load(path, mmap_mode="r")


def _validated(net: Net, probabilities: NDArray[np.float32], images: Images) -> Net:
    err1, err5 = (top_k_error(probabilities, images.labels, k) for k in (1, 5))
    return replace(net, val_err1=err1, val_err5=err5)


def calibrated(
    config: EnsembleConfig, members: list[Net], predictions: Sequence[NDArray[np.float32]], images: Images
) -> list[Net]:
    """The members with the temperatures that config.temperature asks for, fitted to their validation probabilities."""
    if config.temperature == "none":
        return members
    temperatures = [fitted_temperature(values, images.labels) for values in predictions]
    return [replace(net, temperature=t) for net, t in zip(members, temperatures, strict=True)]


def _require_unseen(candidates: list[Net], config: EnsembleConfig) -> None:
    trained_on_all = [net.key for net in candidates if net.val_err1 is None]
    if trained_on_all and config.temperature == "validation":
        raise PipelineError(
            "ensemble.temperature=validation with members that were trained on the validation images "
            f"({', '.join(trained_on_all)}), where they are overconfident; use ensemble.temperature=none"
        )


def _last_snapshots(candidates: list[Net], size: int) -> list[Net]:
    """The last snapshots of the best run that has any: later ones are better nets (Huang et al. 2017, Sec. 3)."""
    net = next((net for net in candidates if net.snapshots), None)
    if net is None:
        raise PipelineError(
            "ensemble.selection=snapshots, but no finished run has snapshots; train one whose learning rate restarts "
            "(recipe=cifar_snapshots, or recipe.schedule=cosine recipe.cycles=6)"
        )
    return [
        replace(net, snapshot=step, steps=step, step=step, checkpoint_sha256=digest)
        for step, digest in net.snapshots[-size:]
    ]


def _errors_by_size(members: list[Net], predictions: list[NDArray[np.float32]], images: Images) -> list[float | None]:
    errors: list[float | None] = []
    for k, mean in enumerate(averages(members, predictions), 1):
        unseen = all(net.val_err1 is not None for net in members[:k])
        errors.append(top_k_error(mean, images.labels, 1) if unseen else None)
    return errors


def _keep(folder: Path, members: list[Net], predictions: list[NDArray[np.float32]]) -> None:
    """Removes the weights of other candidates from `folder`, and writes the members' probabilities."""
    wanted = {folder / weights_file(net) for net in members}
    for path in (folder / "weights").iterdir():
        if path not in wanted:
            path.unlink()
    (folder / "val_probabilities").mkdir()
    for net, values in zip(members, predictions, strict=True):
        np.save(folder / "val_probabilities" / f"{net.checkpoint_sha256}.npy", values)


def tracked_run(
    source: Source,
    config: EnsembleConfig,
    members: list[Net],
    val_err1: float | None,
    tags: dict[str, str],
    began: float,
) -> str:
    """Id of the ensemble's run in MLflow; `began` is `time.monotonic()`."""
    manifest = source.store.manifest
    tags = {
        **tags,
        DATA_TAG: manifest.content_hash,
        SPLIT_TAG: " and ".join(sorted({net.split for net in members})),
        "pipeline.selection": config.selection,
        "pipeline.members": json.dumps([net.run_id for net in members]),
        "pipeline.member_checkpoints": json.dumps([net.checkpoint_sha256 for net in members]),
        "pipeline.member_weights": json.dumps([net.weight for net in members]),
    }
    tags[NOTE_TAG] = "Averages " + ", ".join(f"[{net.name} {net.key}](#/runs/{net.run_id})" for net in members)
    facts = {"ensemble.selection": config.selection, "ensemble.size": str(len(members))}
    facts |= {f"member.{number}": f"{net.name} {net.key}" for number, net in enumerate(members, 1)}
    name = f"{manifest.name}-ensemble{len(members)}-{config.selection}"
    key = ensemble_key(members)
    return ensemble_run(source.runs, source.location, manifest.name, key, name, facts, tags, val_err1, began)
