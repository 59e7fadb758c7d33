"""torch.hub: `torch.hub.load(<this repository>, "published", "cifar10-resnet20")` for a net trained here.

"load_net" takes a file of weights, "resnet" makes an untrained net.

Needs torch, safetensors and NumPy alone; detectors, AlexNet, VGG and GoogLeNet need torchvision too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

dependencies = ["torch", "safetensors", "numpy"]


def load_net(path: str) -> Any:
    """The trained net in a file of weights, as `pipeline.predict.load_net`: uint8 images in, probabilities or boxes out."""
    from pipeline.predict import load_net

    return load_net(path)


def published(name: str) -> Any:
    """The net of published weights (results/weights), as `load_net`."""
    from pipeline.predict import load_net
    from pipeline.run.sources import published

    return load_net(published(name, Path(__file__).resolve().parent))


def resnet(depth: int | None = None, num_classes: int = 10, in_channels: int = 3, **keys: Any) -> Any:
    """An untrained net of the paper, a torch module.

    Args:
        depth: 6n + 2 for images of 32 pixels (Sec. 4.2), by default 20; 18, 34, 50, 101 or 152 with family="imagenet"
            (Table 1), by default 18.
        keys: other keys of the section `model`, see docs/keys.md: residual=False for a plain net. Defaults are those of
            the family, as on the command line.
    """
    from pipeline.config.model import ModelConfig, family_defaults
    from pipeline.config.values import filled
    from pipeline.learn.models import build_model

    given = keys if depth is None else {**keys, "depth": depth}
    # An unknown family has no defaults; with those of another one, ModelConfig names the families that there are.
    values = {**family_defaults("cifar"), **filled({"model": given})["model"]}
    return build_model(ModelConfig(**values), num_classes, in_channels)
