"""TrivialAugment: one operation of fourteen on each image, at a strength drawn uniformly (Müller and Hutter 2021, arXiv 2103.10158).

The operations and their ranges are those of torchvision's TrivialAugmentWide, which draws from a generator of the process;
here the choices are an image's own draws.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

TRIVIAL_DRAWS = 3  # operation, strength, sign
_LEVELS = 30  # steps from the weakest strength to the strongest
_SIGNED = 0.99  # the strongest of those that go both ways, but for translations and rotations
_PIXELS, _DEGREES, _BITS = 32, 135, 6
NAMES = (
    *("Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast"),
    *("Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"),
)


def trivial_augment(image: Tensor, draws: Tensor) -> Tensor:
    """(C, H, W) uint8 -> the same, C being 1 or 3; what comes in from outside is black.

    Args:
        draws: (TRIVIAL_DRAWS,) in [0, 1).
    """
    operation, strength, sign = draws.tolist()
    level = int(strength * (_LEVELS + 1)) / _LEVELS  # 0 to 1
    return _operations()[NAMES[int(operation * len(NAMES))]](image, level, -1 if sign < 0.5 else 1)


def _operations() -> dict[str, Callable[[Tensor, float, int], Tensor]]:
    """By torchvision's names: functions of an image, a level from 0 to 1, and a sign."""
    from torchvision.transforms.v2 import functional as F

    def moved(image: Tensor, across: float = 0, down: float = 0, shear: tuple[float, float] = (0, 0)) -> Tensor:
        center = [0.0, 0.0] if any(shear) else None
        angles = [math.degrees(math.atan(each)) for each in shear]
        return F.affine(image, 0.0, [int(across), int(down)], 1.0, angles, center=center)

    return {
        "Identity": lambda image, level, sign: image,
        "ShearX": lambda image, level, sign: moved(image, shear=(sign * _SIGNED * level, 0)),
        "ShearY": lambda image, level, sign: moved(image, shear=(0, sign * _SIGNED * level)),
        "TranslateX": lambda image, level, sign: moved(image, across=sign * _PIXELS * level),
        "TranslateY": lambda image, level, sign: moved(image, down=sign * _PIXELS * level),
        "Rotate": lambda image, level, sign: F.rotate(image, sign * _DEGREES * level),
        "Brightness": lambda image, level, sign: F.adjust_brightness(image, 1 + sign * _SIGNED * level),
        "Color": lambda image, level, sign: F.adjust_saturation(image, 1 + sign * _SIGNED * level),
        "Contrast": lambda image, level, sign: F.adjust_contrast(image, 1 + sign * _SIGNED * level),
        "Sharpness": lambda image, level, sign: F.adjust_sharpness(image, 1 + sign * _SIGNED * level),
        "Posterize": lambda image, level, sign: F.posterize(image, 8 - round(_BITS * level)),
        "Solarize": lambda image, level, sign: F.solarize(image, 255 * (1 - level)),
        "AutoContrast": lambda image, level, sign: F.autocontrast(image),
        "Equalize": lambda image, level, sign: F.equalize(image),
    }
