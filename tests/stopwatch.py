"""Which tests take long, for tests/long.txt."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

LONG_S, LASTING_S = 1.0, 2.5  # of a core, or on the clock, from which a test is long, all its cases together


class Cost(NamedTuple):
    """Seconds of a core, with those of children that have ended, and on the clock.

    The clock counts commands that a server of processes starts, which are no children of the test.
    """

    core: float = 0.0
    clock: float = 0.0

    def plus(self, other: Cost, share: float = 1.0) -> Cost:
        return Cost(self.core + share * other.core, self.clock + share * other.clock)


def function_of(item: pytest.Item) -> str:
    """The name of a test with its file, without its parameters."""
    return item.nodeid.partition("[")[0]


class Stopwatch:
    """Measures each test. What fixtures of a module or session cost is divided among the tests that use them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tests: dict[pytest.Item, Cost] = defaultdict(Cost)
        self._fixtures: dict[Any, Cost] = defaultdict(Cost)
        self._running: pytest.Item | None = None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._running, before = item, os.times()
        result = yield
        self._tests[item] = self._tests[item].plus(_since(before))
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        before = os.times()
        result = yield
        if fixturedef.scope != "function" and self._running is not None:
            cost = _since(before)
            self._fixtures[fixturedef] = self._fixtures[fixturedef].plus(cost)
            self._tests[self._running] = self._tests[self._running].plus(cost, -1.0)
        return result

    def pytest_sessionfinish(self) -> None:
        users = Counter(fixture for item in self._tests for fixture in _fixtures(item) if fixture in self._fixtures)
        costs: dict[str, Cost] = defaultdict(Cost)
        for item in self._tests:
            costs[function_of(item)] = costs[function_of(item)].plus(self._total(item, users))
        long = sorted(name for name, cost in costs.items() if cost.core > LONG_S or cost.clock > LASTING_S)
        self._path.write_text("".join(f"{name}\n" for name in long))

    def _total(self, item: pytest.Item, users: Mapping[Any, int]) -> Cost:
        """Of the test, with its shares of fixtures."""
        total = self._tests[item]
        for fixture in _fixtures(item) & self._fixtures.keys():
            total = total.plus(self._fixtures[fixture], 1 / users[fixture])
        return total


def _fixtures(item: pytest.Item) -> set[Any]:
    definitions = item._fixtureinfo.name2fixturedefs  # type: ignore[attr-defined]
    return {fixture for several in definitions.values() for fixture in several}


def _since(before: os.times_result) -> Cost:
    after = os.times()
    return Cost(sum(after[:4]) - sum(before[:4]), after.elapsed - before.elapsed)
