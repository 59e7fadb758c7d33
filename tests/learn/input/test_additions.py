"""Random erasing, mixup, CutMix and TrivialAugment on images and draws whose result is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import beta
from torchvision.transforms.v2 import InterpolationMode, TrivialAugmentWide

from pipeline.learn.input.additions import Erasing, Mixing
from pipeline.learn.input.trivial import NAMES, trivial_augment

IMAGES = torch.arange(3, dtype=torch.float32)[:, None, None, None].expand(3, 1, 8, 8) + 1  # of ones, twos and threes
LABELS = torch.tensor([10, 20, 30])


def erased(*draws: float, probability: float = 1.0) -> torch.Tensor:
    """Whether each pixel of an 8x8 image is erased."""
    return Erasing(probability)(torch.ones(1, 1, 8, 8), torch.tensor([draws]))[0, 0] == 0


def test_a_rectangle_is_erased_where_its_draws_say() -> None:
    inside = erased(0.0, 0.4355, 0.5, 0.0, 0.999)  # area 0.155 of 64 pixels, nearly square: 3 x 3
    assert inside[:3, 5:].all() and inside.sum() == 9
    assert erased(0.0, 0.999, 0.999, 0.5, 0.5).sum(0).max() == 8  # as tall as the image


def test_as_many_images_are_erased_as_the_probability_says_by_2_to_33_percent() -> None:
    draws = torch.rand(4000, 5, generator=torch.Generator().manual_seed(0))
    share = (Erasing(0.25)(torch.ones(4000, 1, 32, 32), draws) == 0).float().mean((1, 2, 3))
    assert (share > 0).float().mean().item() == pytest.approx(0.25, abs=0.02)
    assert share[share > 0].min() > 0.015 and share.max() < 0.36


def mixed(mixing: Mixing, *draws: tuple[float, ...]) -> list[torch.Tensor]:
    """Of the three images; draws of the second and third, whose first entry is the share."""
    return list(mixing(IMAGES, LABELS, torch.tensor([(9.0,) * 4, *draws])))


def test_mixup_averages_an_image_and_its_label_with_those_before_and_the_larger_share_comes_first() -> None:
    images, first, second, shares = mixed(Mixing(0.2, 0), (0.75, 0, 0, 0), (0.25, 0, 0, 0))
    assert images[:, 0, 0, 0].tolist() == [1.75, 2.25]
    assert (first.tolist(), second.tolist(), shares.tolist()) == ([20, 20], [10, 30], [0.75, 0.75])


def test_cutmix_pastes_a_rectangle_of_the_image_before_and_counts_its_pixels() -> None:
    centre = (0.75, 0.5, 0.5, 0.0)  # a quarter is pasted: 4 x 4
    corner = (0.75, 0.0, 0.999, 0.0)  # of which the image has 2 rows and 3 columns
    images, first, second, shares = mixed(Mixing(0, 1.0), centre, corner)
    assert (images[0, 0, 2:6, 2:6] == 1).all() and (images[0] == 1).sum() == 16
    assert (images[1, 0, :2, 5:] == 2).all() and (images[1] == 2).sum() == 6
    assert (first.tolist(), second.tolist(), shares.tolist()) == ([20, 30], [10, 20], [0.75, 1 - 6 / 64])
    _, first, second, shares = mixed(Mixing(0, 1.0), (0.0, 0.5, 0.5, 0.0), (1.0, 0.5, 0.5, 0.0))
    assert (first.tolist(), second.tolist(), shares.tolist()) == ([10, 30], [20, 20], [1, 1])


def test_with_both_half_of_the_images_are_averaged_and_half_pasted() -> None:
    images, *_ = mixed(Mixing(0.2, 1.0), (0.75, 0.5, 0.5, 0.49), (0.75, 0.5, 0.5, 0.51))
    assert len(images[0].unique()) == 1 and len(images[1].unique()) == 2


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_shares_have_the_beta_distribution_asked_for(alpha: float) -> None:
    draws = np.random.default_rng(0).random((5000, 4), dtype=np.float32)
    shares = Mixing(alpha, 0).shares(draws)
    for quantile in (0.1, 0.5, 0.9):
        assert np.quantile(shares, quantile) == pytest.approx(beta(alpha, alpha).ppf(quantile), abs=0.03)
    assert shares.dtype == np.float32 and shares.min() >= 0 and shares.max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_each_operation_is_torchvisions(name: str, channels: int) -> None:
    image = torch.randint(0, 256, (channels, 24, 20), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    ours, which = TrivialAugmentWide(), (NAMES.index(name) + 0.5) / len(NAMES)
    strengths, signed = ours._AUGMENTATION_SPACE[name]
    for level in (0, 7, 30):
        for sign in (0.2, 0.8):
            magnitudes = strengths(31, 24, 20)
            magnitude = 0.0 if magnitudes is None else float(magnitudes[level]) * (-1 if signed and sign < 0.5 else 1)
            expected = ours._apply_image_or_video_transform(
                image, name, magnitude, interpolation=InterpolationMode.NEAREST, fill={torch.Tensor: None}
            )
            made = trivial_augment(image, torch.tensor([which, (level + 0.5) / 31, sign]))
            assert made.dtype == torch.uint8
            # Torchvision keeps magnitudes in float32.
            assert (made.int() - expected.int()).abs().max() <= 1, (level, sign)
