"""How the pipeline reads each kind of its files. Each function returns all that was read, as lines of text."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from reliability import experiment


def _hash(value: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()


def _items(values: Any) -> list[str]:
    entries = values.items() if isinstance(values, dict) else enumerate(values)
    return [f"{key}: {json.dumps(value, sort_keys=True, default=str)}" for key, value in entries]


def _tensors(state: dict[str, Any]) -> list[str]:
    return [f"{name} {_hash(tensor.numpy())}" for name, tensor in sorted(state.items())]


def finish(root: Path, seed: int) -> None:
    """Names the folder of the stopped run, and adds a leaderboard and a store of shards."""
    from pipeline.atomic import write_json

    (stopped,) = (path for path in (root / "runs").glob("*/previous.ckpt"))
    (root / "runs" / "stopped").symlink_to(stopped.parent.name)
    write_json(root / "experiments" / "digits" / "leaderboard.json", {"sweep": "s", "trials": [{"val_err1": 0.5}]})
    _photos(root)


def _photos(root: Path) -> None:
    from PIL import Image

    from pipeline.config import DataConfig
    from pipeline.data.preprocess import preprocess
    from pipeline.data.sources import fetch

    rng = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(24):
            path = root / "photos" / split / f"class{number % 3}" / f"{number}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            written = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(written, "JPEG")
            path.write_bytes(written.getvalue())
    data = DataConfig(
        name="photos", source="folder", path=str(root / "photos"), format="shards", image_size=32, num_val=6, workers=1
    )
    fetch(data, root / "data" / "raw" / "photos", root)
    preprocess(data, root / "data" / "raw" / "photos", root / "data" / "store" / "photos")


def store(root: Path, path: Path) -> list[str]:
    from pipeline.data.store import ArrayRecords, open_store

    opened = open_store(path.parent)
    parts = [*opened.split_indices("holdout"), *opened.split_indices("full")]
    for split in ("holdout", "full"):
        parts += [value for value in vars(opened.statistics(split)).values() if value is not None]
    for records in (opened.train(), opened.test()):
        assert isinstance(records, ArrayRecords)
        parts += [records.labels, records.images]
    return [*_items(vars(opened.manifest)), *map(_hash, parts)]


def shards(root: Path, path: Path) -> list[str]:
    from pipeline.data.store import ShardRecords, open_store

    opened, lines = open_store(path.parent), []
    for records in (opened.train(), opened.test()):
        assert isinstance(records, ShardRecords)
        lines += [hashlib.sha256(records.jpeg(index)).hexdigest() for index in range(len(records))]
    return lines


def raw(root: Path, path: Path) -> list[str]:
    from pipeline.data.sources import fetched

    found = fetched(experiment.configured(root).data, path.parent)
    return [found.layout, *(f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}" for file in found.paths)]


def checkpoint(root: Path, path: Path) -> list[str]:
    from pipeline.run.checkpoint import resumable
    from pipeline.run.checkpoint_io import AtomicCheckpointIO

    folder = path.parent.resolve()
    chosen = resumable(folder, folder.name)
    assert chosen is not None
    content = AtomicCheckpointIO().load_checkpoint(chosen)
    return [str(content["global_step"]), *_tensors(content["state_dict"]), str(content["classifier"]), _states(content)]


def _states(content: dict[str, Any]) -> str:
    (states,) = (optimizer["state"] for optimizer in content["optimizer_states"])
    return " ".join(_hash(value.numpy()) for state in states.values() for value in state.values())


def weights(root: Path, path: Path) -> list[str]:
    from pipeline.run.weights import load_weights

    state, net = load_weights(path)
    return [*_tensors(state), *_items({**net.to_json(), "checkpoint_sha256": ""})]


def _source(root: Path) -> Any:
    from pipeline.ensemble.members import Source

    return Source.configured(experiment.configured(root), root / "data" / "store" / "digits")


def members(root: Path, path: Path) -> list[str]:
    from pipeline.ensemble.build import read_ensemble

    source, folder = _source(root), path.parents[1]
    nets = read_ensemble(folder, source.store.manifest.content_hash).members
    return [hashlib.sha256(source.fetch(net, folder).read_bytes()).hexdigest() for net in nets]


def probabilities(root: Path, path: Path) -> list[str]:
    from pipeline.ensemble.build import read_ensemble
    from pipeline.ensemble.predictions import validation_images

    source, folder = _source(root), root / "experiments" / "digits" / "ensemble"
    nets = read_ensemble(folder, source.store.manifest.content_hash).members
    images = validation_images(source.store)
    return [_hash(source.predict(net, images, folder)) for net in nets]


def made_again(root: Path, path: Path) -> list[str]:
    from pipeline.atomic import read_if_whole

    return _items(read_if_whole(path))


KEYS = ("time", "event", "name", "experiment", "params", "tags", "step", "values", "path", "folder", "status", "key")


def journal(root: Path, path: Path) -> list[str]:
    from pipeline.tracking.journal import Journal, read

    Journal(path.parent)  # as a resumed training opens it
    return [str({key: event[key] for key in KEYS if key in event}) for event in read(path)[0]]


def ensemble(root: Path, path: Path) -> list[str]:
    from pipeline.ensemble.build import read_ensemble

    return [str(read_ensemble(path.parent, _source(root).store.manifest.content_hash))]


def result(root: Path, path: Path) -> list[str]:
    from pipeline.workspace import Workspace

    return _items(Workspace(root, "digits").read_result(path.stem, "evaluate"))


def composed(root: Path, path: Path) -> list[str]:
    from pipeline.cli import main

    written = io.StringIO()
    with redirect_stdout(written):
        status = main(["train", "--config", str(path), "--cfg", "job"])
    if status:
        raise SystemExit(status)
    return written.getvalue().splitlines()


def trained(root: Path, path: Path) -> list[str]:
    """The stopped training goes on to its end."""
    from pipeline.run.fit import fit

    net = fit(experiment.configured(root, "seed=7"), root / "data" / "store" / "digits", track=False)
    folder = root / "runs" / net.key
    return [
        str(net.val_err1),
        *_items([(folder / "best.safetensors").read_bytes().hex()]),
        *checkpoint(root, folder / "last.ckpt")[1:],
    ]


def evaluated(root: Path, path: Path) -> list[str]:
    from pipeline.cli import main

    shutil.rmtree(root / "runs" / "predictions")
    if status := main(["evaluate", *experiment.OVERRIDES]):
        raise SystemExit(status)
    return [(root / "experiments" / "digits" / "evaluate.json").read_text(encoding="utf-8")]
