"""From published bytes to stored images, in threads and in order."""

from __future__ import annotations

import pytest

from pipeline.data.convert import AHEAD, ordered_map


def test_results_keep_their_order_and_do_not_pile_up_and_an_error_in_a_thread_ends_the_map():
    started = []

    def double(item: int) -> int:
        started.append(item)
        return 2 * item

    results = ordered_map(double, range(10_000), workers=4, chunk=10)
    assert next(results) == 0
    assert len(started) <= (AHEAD * 4 + 1) * 10
    assert list(results) == list(range(2, 20_000, 2))
    with pytest.raises(ZeroDivisionError):
        list(ordered_map(lambda n: 1 // (50 - n), range(100), workers=3))
