"""A trained detector: images in, boxes of objects of named classes out. Needs torch, torchvision, safetensors and NumPy alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pipeline.data.boxes import Detections
from pipeline.errors import PipelineError
from pipeline.learn.input.scenes import detections, normalised, resized, scaled
from pipeline.learn.training.precision import float32_products
from pipeline.record import Net
from pipeline.run.inputs import Input, Resize


class ImageDetector(nn.Module):
    """A trained detector with the normalisation of its training.

    Attributes:
        classes: names of the K classes; a label is an index into them.
        channels: of an image, 1 for grey ones, 3 for RGB.
        record: what the net is and how it was trained.
    """

    _mean: Tensor  # (C,) of pixels from 0 to 1
    _std: Tensor  # (C,)

    def __init__(self, net: nn.Module, record: Net, input: Input) -> None:
        """net: a `Detector` in evaluation mode."""
        super().__init__()
        self.classes, self.resize, self.record = input.classes, input.resize, record
        self.channels = input.resize.shape[2]
        self.net = net
        self.register_buffer("_mean", input.mean[0, 0])
        self.register_buffer("_std", input.std)

    @torch.inference_mode()
    def forward(self, images: Sequence[Tensor]) -> list[Detections]:
        """The objects in each image, boxes in its own pixels; those of validation if the images are a batch of validation.

        Images are brought to the size that they have in tests. They become one batch, in which smaller ones are padded, which
        changes scores and corners a little: the answer to a list of one image depends on that image alone.

        Args:
            images: (C, H, W) uint8 each, of any sizes, on the module's device.
        Raises:
            PipelineError: images of another kind.
        """
        for image in images:
            self._require(image)
        if not len(images):
            return []
        inputs = [normalised(as_tested(image, self.resize), self._mean, self._std) for image in images]
        with float32_products("fp32"):  # not TF32, as for nets that classify
            outputs = self.net(inputs)
        return detections(outputs, inputs, [(image.shape[2], image.shape[1]) for image in images])

    def _require(self, image: Tensor) -> None:
        wanted = f"({self.channels}, H, W)"
        if not isinstance(image, Tensor):
            raise PipelineError(
                f"an image is a {type(image).__name__}; send a list of uint8 tensors of shape {wanted} (torch.from_numpy makes one)"
            )
        if image.dtype != torch.uint8:
            raise PipelineError(
                f"an image of {image.dtype}; send uint8 pixels from 0 to 255, which are normalised here"
            )
        if image.ndim != 3 or image.shape[0] != self.channels or not image.numel():
            last = image.ndim == 3 and image.shape[2] == self.channels
            remedy = "channels come first: image.permute(2, 0, 1)" if last else "send a list of such images"
            raise PipelineError(f"an image of shape {tuple(image.shape)}; this net takes {wanted} each; {remedy}")


def as_tested(image: Tensor, resize: Resize) -> Tensor:
    """(C, h, w) uint8: a whole image, (C, H, W) uint8, at the size that it has in tests. Such an image stays as it is."""
    height, width = image.shape[1:]
    size = scaled(height, width, resize.whole_side)
    return image if size == (height, width) else resized(image, size)
