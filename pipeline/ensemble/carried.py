"""What a model of MLflow carries: its members' nets with their weights, and a description of both."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.atomic import read_json, sha256
from pipeline.config.model import ModelConfig
from pipeline.ensemble.forward import trained
from pipeline.errors import DamagedError

DESCRIPTION = "ensemble"  # artifact: JSON, see `pipeline.run.served`; the others are weights by hash
REMEDY = "`pipeline ensemble` registers an ensemble anew; delete a training's model in MLflow, and `pipeline sync` makes it anew"


class Member(NamedTuple):
    """A net in evaluation mode on the CPU, and how its images are normalised."""

    facts: Mapping[str, Any]  # of the description
    net: nn.Module
    mean: Tensor  # float32 in [0, 1]: (H, W, C) of the input, or (1, 1, C)
    std: Tensor  # (C,) float32


def device_in(context: Any) -> torch.device:
    """What the loader's model_config names as device: cpu, cuda, or auto, a GPU if there is one."""
    device = context.model_config["device"]
    return torch.device(device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu")


def description_in(artifacts: Mapping[str, str]) -> dict[str, Any]:
    """Of a model whose files have these paths."""
    return read_json(artifacts[DESCRIPTION], REMEDY)


def members_in(artifacts: Mapping[str, str]) -> Iterator[Member]:
    """Raises DamagedError if a file is not the one that training wrote."""
    description = description_in(artifacts)
    for facts in description["members"]:
        weights = artifacts[facts["checkpoint_sha256"]]
        if sha256(weights) != facts["checkpoint_sha256"]:
            raise DamagedError(f"{weights} is damaged; {REMEDY}")
        state = {name: tensor for name, tensor in load_file(weights).items() if name not in description["beside"]}
        net = trained(ModelConfig(**facts["model"]), facts["num_classes"], facts["in_channels"], state)
        statistics = description["statistics"][facts["statistics"]]
        mean, std = (torch.tensor(statistics[name], dtype=torch.float32) for name in ("mean", "std"))
        yield Member(facts, net, mean, std)
