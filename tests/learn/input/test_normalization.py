from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.store import Statistics
from pipeline.learn.input.normalization import channel_constants


def measured(*deviations: float) -> Statistics:
    std = np.array(deviations, np.float32)
    mean = np.full_like(std, 0.5)
    return Statistics(pixel_mean=mean[None, None], mean=mean, std=std)


def test_a_channel_with_one_value_in_all_images_becomes_zero_instead_of_nan() -> None:
    mean, std = channel_constants("channel", measured(0.25, 0.0, 0.5))
    assert std.dtype == np.float32 and std.tolist() == [0.25, 1.0, 0.5]
    pixels = np.array([0.75, 0.5, 0.0], np.float32)
    assert ((pixels - mean) / std).tolist() == [1.0, 0.0, -1.0]


def test_constants_of_rgb_are_refused_for_grey_images() -> None:
    assert [len(values) for values in channel_constants("half", measured(0.1))] == [1, 1]
    with pytest.raises(
        ValueError, match=r"recipe\.normalize=imagenet is for RGB .*override: recipe\.normalize=channel"
    ):
        channel_constants("imagenet", measured(0.1))
