"""Which tests take long, for tests/long.txt."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

LONG_S, LASTING_S = 1.0, 4.0  # of a core, or on the clock, from which a test is long


def function_of(item: pytest.Item) -> str:
    """The name of a test with its file, without its parameters."""
    return item.nodeid.partition("[")[0]


class Stopwatch:
    """Measures each test's processor time, with that of its children that have ended, and its time on the clock.

    The clock counts commands that a server of processes starts, which are no children of the test.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._long: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        before = os.times()
        result = yield
        after = os.times()
        if sum(after[:4]) - sum(before[:4]) > LONG_S or after.elapsed - before.elapsed > LASTING_S:
            self._long.add(function_of(item))
        return result

    def pytest_sessionfinish(self) -> None:
        self._path.write_text("".join(f"{name}\n" for name in sorted(self._long)))
