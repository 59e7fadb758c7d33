"""How an image becomes the input of a net. Files of weights carry it, so that they predict without the store of their training.

Axes: H x W pixels, C channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.config.section import kinds
from pipeline.data.store import Statistics, Store
from pipeline.errors import PipelineError
from pipeline.learn.input.augment import mean_of_crops
from pipeline.learn.input.normalization import channel_constants
from pipeline.record import Net, fits

KEY = "input"  # of the header's record
TENSORS = ("input.mean", "input.std")  # beside the weights


@dataclass(frozen=True, kw_only=True)
class Resize:
    """From an image of any size to pixels as nets were validated on them. Sides in pixels.

    arrays: the largest central square becomes `image_size` x `image_size` (bicubic, antialiased).
    shards: the store kept images as JPEGs whose shorter side is at most `image_size` (bicubic). The shorter side becomes
    `test_side` (bilinear, antialiased), and the centre of `shape` is cut out.

    Detectors see whole images instead, see `whole_side`.
    """

    format: Literal["arrays", "shards"]
    image_size: int
    test_side: int
    shape: tuple[int, int, int]  # (H, W, C) of the net's input; C is 1 for grey images, 3 for RGB

    @property
    def whole_side(self) -> int:
        """To which `learn.input.scenes.scaled` brings the shorter side of a whole image."""
        return self.image_size if self.format == "arrays" else self.test_side

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Resize:
        """The rule that `asdict` wrote, perhaps as JSON.

        Raises:
            PipelineError: no such rule.
        """
        try:
            resize = cls(**{**values, "shape": tuple(values["shape"])})
        except (KeyError, TypeError) as error:
            raise PipelineError(f"no rule of resizing: {error}") from None
        if not all(fits(getattr(resize, key), kind) for key, kind in kinds(cls).items()):
            raise PipelineError(f"no rule of resizing: {resize}")
        return resize


@dataclass(frozen=True, kw_only=True, eq=False)
class Input:
    """What a net takes and what its outputs mean. Input is (pixels / 255 - mean) / std."""

    classes: tuple[str, ...]  # an output is an index into them
    resize: Resize
    mean: Tensor  # float32 in [0, 1]: (H, W, C) of the input, or (1, 1, C)
    std: Tensor  # (C,) float32

    @property
    def tensors(self) -> dict[str, Tensor]:
        return dict(zip(TENSORS, (self.mean, self.std), strict=True))

    def to_json(self) -> dict[str, Any]:
        """All but the tensors."""
        return {"classes": self.classes, "resize": asdict(self.resize)}


def input_of(store: Store, net: Net) -> Input:
    """What a net that was trained on `store` takes: its crop, the statistics of its split."""
    manifest, measured = store.manifest, store.statistics(net.split)
    per_pixel = net.normalize == "per_pixel_mean"
    mean, std = channel_constants("channel" if per_pixel else net.normalize, measured)
    resize = resize_of(store, net)
    whole = _pixel_mean(measured, resize) if per_pixel else torch.from_numpy(mean)[None, None]
    deviation = np.ones_like(std) if per_pixel else std
    return Input(classes=manifest.classes, resize=resize, mean=whole, std=torch.from_numpy(deviation))


def resize_of(store: Store, net: Net) -> Resize:
    """The rule by which images become the input of a net that was trained on `store`."""
    manifest, crop = store.manifest, net.augment.crop
    arrays = manifest.format == "arrays"
    shape = (manifest.height, manifest.width, manifest.channels) if arrays else (crop, crop, manifest.channels)
    side = 0 if arrays else net.augment.test_side
    return Resize(format=manifest.format, image_size=manifest.image_size, test_side=side, shape=shape)  # type: ignore[arg-type]


def _pixel_mean(measured: Statistics, resize: Resize) -> Tensor:
    """(H, W, C) mean of the input: a whole small image, or a crop."""
    mean = torch.from_numpy(measured.pixel_mean)
    if resize.format == "arrays":
        return mean
    return mean_of_crops(mean, resize.test_side, resize.shape[0]).permute(1, 2, 0).contiguous()


def input_in(record: Mapping[str, Any], tensors: Mapping[str, Tensor], net: Net) -> Input:
    """The input that a file of weights carries.

    Args:
        record: of the header.
        tensors: of the file.
    Raises:
        PipelineError: an input that is not that of a net.
    """
    try:
        values = record[KEY]
        classes, resize = tuple(values["classes"]), Resize.read(values["resize"])
        mean, std = (tensors[name] for name in TENSORS)
    except (KeyError, TypeError) as error:
        raise PipelineError(f"no input of a net: {error}") from None
    height, width, channels = resize.shape
    named = len(classes) == net.num_classes and all(isinstance(name, str) for name in classes)
    shapes = tuple(mean.shape) in (resize.shape, (1, 1, channels)) and tuple(std.shape) == (channels,)
    if not (named and shapes and channels == net.in_channels and min(height, width) > 0):
        raise PipelineError("no input of a net: classes, shapes and constants disagree")
    return Input(classes=classes, resize=resize, mean=mean, std=std)
