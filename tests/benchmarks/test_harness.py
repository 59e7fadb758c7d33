from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from benchmarks.harness import Judged, Row, measure, show


def row(ours: list[float], reference: list[float], bar: float | None, calls: list[str] | None = None) -> Row:
    """A row whose rates are given, in the order of measuring; `calls` notes who was asked."""
    mine, theirs, calls = iter(ours), iter(reference), calls if calls is not None else []

    def asked(name: str, rates: Iterator[float]) -> float:
        calls.append(name)
        return next(rates)

    return Row(name="thing", unit="1/s", bar=bar, ours=lambda: asked("A", mine), reference=lambda: asked("B", theirs))


def test_runs_are_interleaved() -> None:
    calls: list[str] = []
    measure(row([1.0] * 3, [1.0] * 3, None, calls), 3, lambda _: None)
    assert calls == list("ABABAB")


def test_the_ratio_is_the_median_of_the_pairs_not_the_ratio_of_the_medians() -> None:
    result = measure(row([1.0, 9.0, 4.0], [2.0, 9.0, 1.0], bar=1.0), 3, lambda _: None)
    assert (result.ratio, result.spread) == (1.0, [0.5, 4.0])
    assert (result.ours, result.reference) == (4.0, 2.0)


@pytest.mark.parametrize(("bar", "holds"), [(0.95, True), (0.96, False), (None, None)])
def test_a_bar_holds_when_the_ratio_reaches_it(bar: float | None, holds: bool | None) -> None:
    assert measure(row([0.95], [1.0], bar), 1, lambda _: None).holds is holds


@pytest.mark.parametrize(
    ("judged", "bar", "holds"),
    [
        ("ratio <=", 1.5, True),
        ("ratio <=", 1.4, False),
        ("ours <=", 3.0, True),
        ("ours <=", 2.9, False),
        ("excess <=", 1.0, True),
        ("excess <=", 0.9, False),
    ],
)
def test_a_bar_may_limit_the_ratio_the_figure_or_the_excess(judged: Judged, bar: float, holds: bool) -> None:
    asked = replace(row([3.0], [2.0], bar), judged=judged)
    assert measure(asked, 1, lambda _: None).holds is holds


@pytest.mark.parametrize(
    ("judged", "limited"),
    [("ratio >=", [1.0, 0.5, 4.0]), ("ratio <=", [1.0, 0.5, 4.0]), ("ours <=", [4, 1, 9]), ("excess <=", [0, -1, 3])],
)
def test_median_least_and_greatest_of_what_a_bar_limits_are_kept_and_shown(
    judged: Judged, limited: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = replace(row([1.0, 9.0, 4.0], [2.0, 9.0, 1.0], bar=1.0), judged=judged)
    result = measure(asked, 3, lambda _: None)
    assert result.limited == limited
    show([result], "title")
    middle, least, greatest = limited
    assert f"{judged.split()[0]} {middle:.3f} ({least:.3f} to {greatest:.3f})" in capsys.readouterr().out


def test_a_row_may_say_how_often_it_is_measured() -> None:
    calls: list[str] = []
    measure(replace(row([1.0], [1.0], None, calls), pairs=1), 5, lambda _: None)
    assert calls == ["A", "B"]


def test_what_is_measured_writes_nothing_between_the_lines_of_progress(capsys: pytest.CaptureFixture[str]) -> None:
    def loud() -> float:
        print("noise", file=sys.stderr)
        return 1.0

    lines: list[str] = []
    measure(Row(name="thing", unit="1/s", bar=None, ours=loud, reference=loud), 2, lines.append)
    assert capsys.readouterr().err == ""
    assert lines == ["thing: 1 against 1 1/s"] * 2


def test_the_table_says_which_bar_does_not_hold(capsys: pytest.CaptureFixture[str]) -> None:
    rates = [[0.5], [1.0]]
    show([measure(row(*rates, bar), 1, lambda _: None) for bar in (0.95, 0.4, None)], "title")
    shown = capsys.readouterr().out
    assert shown.count("NO") == 1
    assert shown.count("yes") == 1
    assert shown.count("0.500 to 0.500") == 3
