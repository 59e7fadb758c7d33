"""A net's weights on disk: safetensors with the net's record in the header, and what its images need. Reading needs no Lightning.

The header's metadata hold one key, HEADER, with JSON: the fields of `record.Net`, under "input" those of `inputs.Input`, and
a digest of all that and of every tensor. Beside the weights lie `inputs.TENSORS`, which are no part of the state dict.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from pipeline.atomic import replacing, sha256
from pipeline.errors import DamagedError, PipelineError, printable
from pipeline.record import Net, from_json
from pipeline.run import inputs
from pipeline.run.inputs import Input, input_in

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


class Stored(NamedTuple):
    """What a file of weights holds."""

    state: dict[str, torch.Tensor]  # the net's state dict
    net: Net
    input: Input


def save_weights(
    model: torch.nn.Module,
    path: Path,
    net: Net,
    require: Callable[[], object] | None = None,
    *,
    input: Input,
) -> None:
    """Weights as safetensors, with the net's record, its input and a digest of all in the header.

    Args:
        require: see `pipeline.atomic.replacing`.
    """
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    tensors |= input.tensors
    record = {**net.to_json(), "checkpoint_sha256": "", inputs.KEY: input.to_json()}
    content = save(tensors, metadata={HEADER: json.dumps({**record, DIGEST: _digest(tensors, record)})})
    with replacing(path, require) as part:
        part.write_bytes(content)  # Python's error says that a disk is full, safetensors' does not


def load_weights(path: Path, remedy: str = AGAIN) -> tuple[dict[str, torch.Tensor], Net]:
    """State dict and record of `load_stored`."""
    state, net, _ = load_stored(path, remedy)
    return state, net


def load_stored(path: Path, remedy: str = AGAIN) -> Stored:
    """What `save_weights` wrote, the record with the file's own hash.

    Args:
        remedy: what the user can do about a damaged file.
    Raises:
        FileNotFoundError: no such file.
        PipelineError: a damaged file (`DamagedError`), or one without a record of this project.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stream:
            header = (stream.metadata() or {}).get(HEADER)
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DamagedError(f"{path} is damaged ({printable(error)}); {remedy}") from None
    if header is None:
        raise PipelineError(f"{path} was not written by this project: its header holds no net's record")
    stored = recorded(header, tensors, path, remedy)
    return stored._replace(net=replace(stored.net, checkpoint_sha256=sha256(path)))


def recorded(header: str, tensors: Mapping[str, torch.Tensor], path: Path, remedy: str = AGAIN) -> Stored:
    """What the file `path` holds, once the digest in its header is that of the record and the tensors.

    Raises:
        PipelineError: it is not (`DamagedError`), or the header holds no record of a net.
    """
    try:
        record = json.loads(header)
        digest = record.pop(DIGEST, None)
        net = from_json(record)
        input = input_in(record, tensors, net)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise PipelineError(
            f"{printable(path)}: its header holds no record of a net ({printable(error)}); {remedy}"
        ) from None
    if digest != _digest(tensors, record):
        raise DamagedError(f"{printable(path)} is damaged (its digest disagrees with its weights and record); {remedy}")
    state = {name: tensor for name, tensor in tensors.items() if name not in inputs.TENSORS}
    return Stored(state, net, input)


def _digest(tensors: Mapping[str, torch.Tensor], record: Mapping[str, Any]) -> str:
    return hashlib.sha256((json.dumps(record) + fingerprint(tensors)).encode()).hexdigest()


def fingerprint(weights: Mapping[str, torch.Tensor]) -> str:
    """Hex digest of names, shapes and values; the same for any file that holds them."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
