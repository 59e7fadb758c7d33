"""torchvision's published weights of ImageNet."""

from __future__ import annotations

import pickle

import torch
from torch import Tensor

from pipeline.config import ModelConfig
from pipeline.errors import PipelineError
from pipeline.run.sources import TORCHVISION


def published_weights(name: str, model: ModelConfig | None) -> dict[str, Tensor]:
    """Weights by name, which are downloaded only if they are those of the net that starts.

    Args:
        name: of a net (resnet50, for its newest weights) or of weights (ResNet50_Weights.IMAGENET1K_V1).
        model: the net that starts; None for any.
    Raises:
        PipelineError: torchvision has no such weights, they are of another net or without a classifier, or they cannot be fetched.
    """
    from torchvision.models import get_model_weights, get_weight, list_models

    try:
        weights = get_weight(name) if "." in name else get_model_weights(name).DEFAULT
    except (KeyError, ValueError, AttributeError):
        models = ", ".join(list_models(include=["resnet*", "vgg*", "alexnet", "googlenet"]))
        raise PipelineError(
            f"start.weights={TORCHVISION}{name}: torchvision has no such weights; a model ({models}) or a name such as "
            "ResNet50_Weights.IMAGENET1K_V1"
        ) from None
    if model is not None and name.lower().split("_weights")[0] != (wanted := _torchvisions(model.net)):
        raise PipelineError(
            f"start.weights={TORCHVISION}{name} are not those of {model.net.name}"
            f"{'' if wanted else ', which torchvision does not have'} (override: "
            f"start.weights={TORCHVISION + wanted if wanted else ''})"
        )
    if weights.meta["categories"] is None:  # VGG-16's for detectors, whose pixels are not divided by a deviation
        raise PipelineError(
            f"start.weights={TORCHVISION}{name} have no classifier, and take pixels scaled in another way (override: "
            f"start.weights={TORCHVISION}{type(weights).__name__}.IMAGENET1K_V1)"
        )
    try:
        return dict(
            torch.hub.load_state_dict_from_url(weights.url, map_location="cpu", check_hash=True, weights_only=True)
        )
    except (OSError, RuntimeError, pickle.UnpicklingError) as error:
        raise PipelineError(
            f"{weights.url} cannot be fetched ({error}); download it elsewhere and name the file"
        ) from None


def _torchvisions(net: ModelConfig) -> str:
    """torchvision's name of the net; "" for one that it has no weights of."""
    kind, *marks = net.family.split("_")
    if net.small or (kind == "imagenet" and not net.residual):
        return ""
    return (
        kind
        if kind in ("alexnet", "googlenet")
        else "_".join([f"{'vgg' if kind == 'vgg' else 'resnet'}{net.depth}", *marks])
    )
