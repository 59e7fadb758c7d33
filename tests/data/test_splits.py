from __future__ import annotations

import numpy as np
import pytest

from pipeline.data.splits import MEAN_SIDE, Moments, array_statistics, evenly, make_splits, moments, stratified

LABELS = np.repeat(np.arange(10), 5000)


def test_val_split_is_disjoint_from_train_and_both_cover_everything():
    splits = make_splits(LABELS, 5000, seed=0)
    assert len(splits["holdout_train"]) == 45_000
    assert np.array_equal(np.sort(np.concatenate([splits["holdout_train"], splits["holdout_val"]])), np.arange(50_000))
    assert np.array_equal(splits["full_train"], np.arange(50_000))
    assert all(s.dtype == np.int64 and np.array_equal(s, np.sort(s)) for s in splits.values())


def test_the_seed_decides_and_nothing_else():
    first = stratified(LABELS, 5000, seed=0)
    assert set(np.bincount(LABELS[first])) == {500}
    assert np.array_equal(first, stratified(LABELS, 5000, seed=0))
    assert len(np.intersect1d(first, stratified(LABELS, 5000, seed=1))) < 1000
    # Other numbers here change every published result.
    assert stratified(np.repeat([0, 1], 10), 4, seed=0).tolist() == [2, 3, 11, 13]


@pytest.mark.parametrize(
    ("sizes", "count", "shares"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([10, 10, 10], 10, [4, 3, 3]),  # equal remainders: the earlier class
        ([97, 2, 2], 10, [8, 1, 1]),  # a share of 0.2 rounds to nothing, but every class validates
        ([2, 2, 2], 3, [1, 1, 1]),
        ([9, 2], 9, [8, 1]),
        ([2, 2, 4], 5, [1, 1, 3]),  # and every class trains
    ],
)
def test_shares_follow_the_largest_remainder(sizes, count, shares):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    assert np.bincount(labels[stratified(labels, count, seed=3)]).tolist() == shares


@pytest.mark.parametrize("count", [0, 9, 49_991, 50_000])
def test_a_split_that_leaves_a_class_out_is_refused(count):
    with pytest.raises(ValueError, match=rf"data\.num_val={count} .* choose from 10 to 49990"):
        make_splits(LABELS, count, seed=0)
    with pytest.raises(ValueError, match="class number 1 has one image"):
        stratified(np.array([0, 0, 0, 1]), 2, seed=0)


@pytest.mark.parametrize("channels", [1, 3])
def test_array_statistics_are_those_of_the_chosen_images(channels):
    images = np.random.default_rng(0).integers(0, 256, (40, 5, 6, channels), dtype=np.uint8)
    chosen = np.arange(0, 40, 3)
    statistics, scaled = array_statistics(images, chosen, rows_at_once=7), images[chosen] / 255
    np.testing.assert_allclose(statistics["mean"], scaled.mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(statistics["std"], scaled.std(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(statistics["pixel_mean"], scaled.mean(axis=0), rtol=1e-6)
    assert all(value.dtype == np.float32 for value in statistics.values())


def gathered(*images):
    sums = Moments()
    for image in images:
        sums.add(*moments(image))
    return sums.statistics()


def test_the_mean_image_is_that_of_the_centres_scaled_to_one_size():
    image = np.zeros((MEAN_SIDE, 3 * MEAN_SIDE, 1), np.uint8)
    image[:, MEAN_SIDE : 2 * MEAN_SIDE] = 100  # the middle of a wide image
    mean = gathered(image, np.full((2 * MEAN_SIDE, 2 * MEAN_SIDE, 1), 200, np.uint8))["pixel_mean"]
    assert mean.shape == (MEAN_SIDE, MEAN_SIDE, 1) and mean.dtype == np.float32
    np.testing.assert_allclose(mean, 150 / 255, rtol=1e-6)


def test_statistics_of_images_of_differing_size_are_those_of_the_pixels():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image[..., 2] = 255 - image[..., 0]
    statistics, pixels = gathered(image), image.reshape(-1, 3) / 255
    np.testing.assert_allclose(statistics["mean"], pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(statistics["std"], pixels.std(0), rtol=1e-6)
    np.testing.assert_allclose(statistics["covariance"], np.cov(pixels.T, bias=True), rtol=1e-4, atol=1e-7)
    assert statistics["covariance"][0, 2] < -0.05 and statistics["covariance"].dtype == np.float32
    # Each image counts the same, whatever its size.
    statistics = gathered(np.full((2, 2, 3), 51, np.uint8), np.full((40, 30, 3), 204, np.uint8))
    np.testing.assert_allclose(statistics["mean"], [0.5] * 3, rtol=1e-6)
    np.testing.assert_allclose(statistics["std"], [0.3] * 3, rtol=1e-6)


def test_even_choice_spans_the_whole_range():
    assert evenly(np.arange(5), 10).tolist() == [0, 1, 2, 3, 4]
    assert evenly(np.arange(100, 200), 4).tolist() == [100, 125, 150, 175]
