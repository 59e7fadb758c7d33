"""Random choices as pure functions of (seed, epoch, sample)."""

from __future__ import annotations

import numpy as np

from pipeline.learn.input import order

PINNED_ORDER = [3, 6, 4, 0, 7, 5, 2, 1]
PINNED_DRAWS = [[0.199141, 0.964559], [0.836734, 0.3801]]


def test_an_epoch_visits_every_sample_once_and_each_epoch_in_another_order():
    first, second = (order.permutation(100, seed=0, epoch=epoch) for epoch in (0, 1))
    assert sorted(first) == sorted(second) == list(range(100))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, order.permutation(100, seed=1, epoch=0))


def test_the_answers_are_those_of_every_machine_and_version():
    """A change here is a change of every result: pinned."""
    assert order.permutation(8, 0, 0).tolist() == PINNED_ORDER
    assert np.allclose(order.draws(2, 2, 0, 0), PINNED_DRAWS)


def test_draws_lie_in_the_unit_interval_and_differ_by_sample():
    drawn = order.draws(1000, 3, 0, 0)
    assert drawn.dtype == np.float32 and drawn.min() >= 0 and drawn.max() < 1
    assert abs(drawn.mean() - 0.5) < 0.03 and len(np.unique(drawn[:, 0])) > 990


def test_the_ranks_shares_make_up_the_global_batch_in_order():
    permuted = order.permutation(64, 0, 0)
    whole = permuted[order.batch_slice(1, 16, 0, 1)]
    shares = [permuted[order.batch_slice(1, 16, rank, 4)] for rank in range(4)]
    assert np.array_equal(np.concatenate(shares), whole)
