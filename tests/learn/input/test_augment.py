"""Crops on hand-computed cases (Sec. 4.2)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.learn.input.augment import ColourShift, Normalize, PadCrop, mean_of_crops

IMAGE = torch.arange(9, dtype=torch.uint8).reshape(1, 3, 3, 1) + 10  # 10 11 12 / 13 14 15 / 16 17 18
MEAN = torch.full((3, 3, 1), 10 / 255)
ONES = torch.ones(1)


def cropped(row: float, column: float, flip: float, mirror: bool = True) -> torch.Tensor:
    made = PadCrop(MEAN, ONES, padding=1, flip=mirror).train(IMAGE, torch.tensor([[row, column, flip]]))
    return (made[0, 0] * 255).round()


def test_padding_is_zero_after_the_mean_is_subtracted():
    assert cropped(0.5, 0.5, 0.9).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]  # the image itself, less its mean
    assert cropped(0.0, 0.0, 0.9).tolist() == [[0, 0, 0], [0, 0, 1], [0, 3, 4]]
    assert cropped(0.99, 0.99, 0.9).tolist() == [[4, 5, 0], [7, 8, 0], [0, 0, 0]]


def test_black_padding_is_zero_before_the_mean_is_subtracted():
    mean = IMAGE[0].float() / 255  # of the pixel at the border
    crop = PadCrop(mean, ONES, padding=1, flip=False, black=True).train(IMAGE, torch.zeros(1, 3))
    assert (crop[0, 0] * 255).round().tolist() == [[-10, -10, -11], [-10, 0, 0], [-13, 0, 0]]


def test_half_of_the_draws_are_mirrored_where_flips_are_on():
    assert cropped(0.5, 0.5, 0.1).tolist() == [[2, 1, 0], [5, 4, 3], [8, 7, 6]]
    assert cropped(0.5, 0.5, 0.1, mirror=False).tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_the_per_pixel_mean_moves_with_its_pixel():
    mean = IMAGE[0].float() / 255
    made = PadCrop(mean, ONES, padding=1, flip=False).train(IMAGE, torch.tensor([[0.0, 0.99, 0.0]]))
    assert made.abs().max() < 1e-6


def test_all_nine_crops_of_padding_one_are_drawn():
    draws = torch.rand(500, 3, generator=torch.Generator().manual_seed(0))
    made = PadCrop(MEAN, ONES, padding=1, flip=False).train(IMAGE.expand(500, 3, 3, 1), draws)
    assert len(made.flatten(1).unique(dim=0)) == 9


def test_a_test_image_is_only_normalised():
    made = PadCrop(MEAN, torch.tensor([0.5]), padding=1, flip=True).test(IMAGE)
    assert torch.allclose(made[0, 0] * 255 * 0.5, IMAGE[0, :, :, 0].float() - 10, atol=1e-4)
    assert made.is_contiguous(memory_format=torch.channels_last)


def test_a_mean_of_crops_is_subtracted_pixel_by_pixel_and_a_shift_in_colour_added_before_the_scale():
    images = torch.tensor([[0, 51], [102, 153]], dtype=torch.uint8).expand(2, 1, 2, 2)
    mean = torch.tensor([[[0.0, 0.2], [0.4, 0.6]]])
    assert Normalize(mean, torch.ones(1))(images).abs().max() < 1e-6
    images = torch.full((2, 2, 3, 3), 51, dtype=torch.uint8)
    made = Normalize(torch.zeros(2, 1, 1), torch.tensor([1.0, 0.5]))(images, torch.tensor([[0.1, 0.2], [0.0, -0.1]]))
    assert torch.allclose(made[:, :, 0, 0], torch.tensor([[0.3, 0.8], [0.2, 0.2]]))


def test_colours_shift_along_the_principal_axes_by_their_eigenvalues():
    # Variances 0.04 along (1, 1) and 0.01 along (1, -1).
    shift = ColourShift(np.array([[0.025, 0.015], [0.015, 0.025]], np.float32), std=0.1)
    draws = np.random.default_rng(0).random((20_000, 2), dtype=np.float32)
    shifts = shift(draws).numpy().astype(np.float64)
    along = shifts @ np.array([[1, 1], [1, -1]]) / np.sqrt(2)
    np.testing.assert_allclose(along.std(0), [0.1 * 0.04, 0.1 * 0.01], rtol=0.02)
    np.testing.assert_allclose(np.corrcoef(along.T)[0, 1], 0, atol=0.02)


def test_a_middle_draw_shifts_no_colour_and_an_extreme_one_is_finite():
    shift = ColourShift(np.eye(3, dtype=np.float32), std=0.1)
    assert not shift(np.full((1, 3), 0.5, np.float32)).any()
    ends = shift(np.array([[0, 0, 0], [1 - 2**-24] * 3], np.float32))
    assert torch.isfinite(ends).all() and ends.abs().max() < 0.1 * 6


def test_the_mean_of_crops_is_the_middle_of_the_mean_image_at_the_tests_size():
    rows = torch.arange(8.0)[:, None, None].expand(8, 8, 1)
    assert mean_of_crops(rows, side=8, crop=4)[0, :, 0].tolist() == [2.0, 3.0, 4.0, 5.0]
    halved = mean_of_crops(rows, side=4, crop=2)
    assert halved.shape == (1, 2, 2) and halved[0, :, 0].mean().item() == 3.5
    assert halved[0, 1, 0].item() - halved[0, 0, 0].item() == pytest.approx(2, abs=0.1)
