"""A net from its file of weights: images in, probabilities of named classes out. Needs torch, safetensors and NumPy alone.

Detectors (`pipeline.predict.detector`), AlexNet, VGG and GoogLeNet need torchvision too.
"""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.ensemble.forward import class_probabilities, ready, trained
from pipeline.errors import MissingError, PipelineError, printable
from pipeline.predict.detector import ImageDetector
from pipeline.record import Net
from pipeline.run.inputs import Input
from pipeline.run.weights import BEST, load_stored


class ImageClassifier(nn.Module):
    """A trained net with the normalisation of its training.

    Attributes:
        classes: names of the K classes.
        shape: (C, H, W) of an image.
        record: what the net is and how it was trained.
    """

    _mean: Tensor  # (C, H, W) or (C, 1, 1), of pixels from 0 to 255
    _scale: Tensor  # (C, 1, 1)

    def __init__(self, net: nn.Module, record: Net, input: Input) -> None:
        """net: in evaluation mode."""
        super().__init__()
        height, width, channels = input.resize.shape
        self.classes, self.resize, self.record = input.classes, input.resize, record
        self.shape = (channels, height, width)
        self.net = ready(net, torch.device("cpu"))
        # Computed as in training, so that every digit is the same.
        self.register_buffer("_mean", (input.mean * 255.0).permute(2, 0, 1).contiguous())
        self.register_buffer("_scale", (1.0 / (255.0 * input.std))[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """(N, K) float32 probabilities, one row an image, of (N, C, H, W) uint8 images on the module's device.

        They are those of the single view of validation; no gradient flows back.

        Raises:
            PipelineError: images of another kind or size.
        """
        self._require(images)
        return class_probabilities(self.net, self.normalized(images).contiguous(memory_format=torch.channels_last))

    def normalized(self, images: Tensor) -> Tensor:
        """(N, C, H, W) float32 input of the net, of pixels from 0 to 255."""
        return (images.float() - self._mean) * self._scale

    def _require(self, images: Tensor) -> None:
        wanted = f"(N, {', '.join(map(str, self.shape))})"
        if not isinstance(images, Tensor):
            raise PipelineError(
                f"images are a {type(images).__name__}; send a uint8 tensor of shape {wanted} (torch.from_numpy makes one)"
            )
        if images.dtype != torch.uint8:
            raise PipelineError(f"images of {images.dtype}; send uint8 pixels from 0 to 255, which are normalised here")
        if images.ndim != 4 or images.shape[1:] != self.shape:
            channels, height, width = self.shape
            last = images.ndim == 4 and images.shape[1:] == (height, width, channels)
            remedy = "channels come first: images.permute(0, 3, 1, 2)" if last else "`pipeline predict` resizes files"
            raise PipelineError(f"images of shape {tuple(images.shape)}; this net takes {wanted}; {remedy}")


def load_net(path: str | os.PathLike[str]) -> ImageClassifier | ImageDetector:
    """The net in a file of weights (best.safetensors or a snapshot), on the CPU; `.to(device)` moves it.

    A detector's file (`record.model.detects`) gives an ImageDetector, any other an ImageClassifier.

    Raises:
        MissingError: no such file.
        PipelineError: a damaged file, or one that this project did not write.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingError(f"{printable(path)}: no such file; name a file of weights, such as runs/<key>/{BEST}")
    state, record, input = load_stored(path)
    try:
        net = trained(record.model, record.num_classes, record.in_channels, state)
    except RuntimeError as error:
        reason = printable(str(error).splitlines()[-1].strip())
        raise PipelineError(f"{printable(path)}: its weights do not fit {record.name}, its record ({reason})") from None
    return (ImageDetector if record.model.detects else ImageClassifier)(net, record, input)
