"""What a trained net costs, counted on the net that its checkpoint describes."""

from __future__ import annotations

from typing import Any

import torch

from pipeline.learn.models import build_model
from pipeline.learn.models.cost import Cost, count_cost


def cost_of(metadata: dict[str, Any]) -> Cost:
    """Cost of one image of the size and channels that the net was trained on; no memory is taken.

    Args:
        metadata: of the checkpoint, see `load_weights`.
    """
    model, side = metadata["model"], metadata["augment"]["crop"]
    with torch.device("meta"):
        return count_cost(build_model(**model), (model["in_channels"], side, side))
