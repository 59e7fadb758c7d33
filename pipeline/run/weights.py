"""A net's weights on disk: safetensors with the net's record in the header. Reading needs no Lightning."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.atomic import replacing, sha256
from pipeline.errors import PipelineError
from pipeline.record import Net, from_json

BEST = "best.safetensors"  # the weights that a run chose
HEADER = "pipeline"  # key of the record in the header


def snapshot_name(step: int) -> str:
    """File of the weights saved at the end of a cycle of the learning rate."""
    return f"snapshot-{step}.safetensors"


def weights_name(net: Net) -> str:
    """File of a net's weights, in the run's folder and among its artifacts."""
    return snapshot_name(net.snapshot) if net.snapshot else BEST


def save_weights(model: torch.nn.Module, path: Path, net: Net) -> None:
    """Weights as safetensors, with the net's record in the header."""
    from safetensors.torch import save_file

    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with replacing(path) as part:
        save_file(weights, part, metadata={HEADER: json.dumps({**net.to_json(), "checkpoint_sha256": ""})})


def load_weights(path: Path) -> tuple[dict[str, torch.Tensor], Net]:
    """State dict and record that `save_weights` wrote, the record with the file's own hash.

    Raises:
        PipelineError: a damaged file, or one without a record of this project.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "pt") as stream:
            header = (stream.metadata() or {}).get(HEADER)
            if header is None:
                raise PipelineError(f"{path} was not written by this project: its header holds no net's record")
            state = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise PipelineError(
            f"{path} cannot be read ({error}); remove it and the run makes or fetches it again"
        ) from None
    return state, replace(from_json(json.loads(header)), checkpoint_sha256=sha256(path))
