"""A net's weights on disk: safetensors with the net's record in the header. Reading needs no Lightning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.atomic import replacing, sha256
from pipeline.errors import DamagedError, PipelineError, printable
from pipeline.record import Net, from_json

BEST = "best.safetensors"  # the weights that a run chose
HEADER = "pipeline"  # key of the record in the header
AGAIN = "copy the file again, or train the net again"
DIGEST = "digest"  # key in the record; a second key in the header would come in a random order


def snapshot_name(step: int) -> str:
    """File of the weights saved at the end of a cycle of the learning rate."""
    return f"snapshot-{step}.safetensors"


def weights_name(net: Net) -> str:
    """File of a net's weights, in the run's folder and among its artifacts."""
    return snapshot_name(net.snapshot) if net.snapshot else BEST


def save_weights(model: torch.nn.Module, path: Path, net: Net, require: Callable[[], object] | None = None) -> None:
    """Weights as safetensors, with the net's record and a digest of both in the header.

    Args:
        require: see `pipeline.atomic.replacing`.
    """
    from safetensors.torch import save

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    record = {**net.to_json(), "checkpoint_sha256": ""}
    content = save(weights, metadata={HEADER: json.dumps({**record, DIGEST: _digest(weights, record)})})
    with replacing(path, require) as part:
        part.write_bytes(content)  # Python's error says that a disk is full, safetensors' does not


def load_weights(path: Path, remedy: str = AGAIN) -> tuple[dict[str, torch.Tensor], Net]:
    """State dict and record that `save_weights` wrote, the record with the file's own hash.

    Args:
        remedy: what the user can do about a damaged file.
    Raises:
        PipelineError: a damaged file (`DamagedError`), or one without a record of this project.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stream:
            header = (stream.metadata() or {}).get(HEADER)
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedError(f"{path} is damaged ({printable(error)}); {remedy}") from None
    if header is None:
        raise PipelineError(f"{path} was not written by this project: its header holds no net's record")
    return state, replace(recorded(header, state, path, remedy), checkpoint_sha256=sha256(path))


def recorded(header: str, weights: Mapping[str, torch.Tensor], path: Path, remedy: str = AGAIN) -> Net:
    """The record in the header of the file `path`, once its digest is that of the record and the weights.

    Raises:
        PipelineError: it is not (`DamagedError`), or the header holds no record of a net.
    """
    try:
        record = json.loads(header)
        digest = record.pop(DIGEST, None)  # files of earlier versions have none
        net = from_json(record)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(
            f"{printable(path)}: its header holds no record of a net ({printable(error)}); {remedy}"
        ) from None
    if digest not in (None, _digest(weights, record)):
        raise DamagedError(f"{printable(path)} is damaged (its digest disagrees with its weights and record); {remedy}")
    return net


def _digest(weights: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> str:
    return hashlib.sha256((json.dumps(record) + fingerprint(weights)).encode()).hexdigest()


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """Hex digest of names, shapes and values; the same for any file that holds them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
