"""Progress of long work: a bar with rate and time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

LOOK_BACK_S = 3600.0
HOURLY_BELOW = 0.1  # units a second: below it, the rate is given by the hour


class Progress(Protocol):
    def advance(self, amount: float = 1) -> None:
        """Counts `amount` units, perhaps a part of one."""

    def note(self, text: str) -> None:
        """Shows `text` beside the bar: the latest loss, the current file."""


class _Bar:
    def __init__(self, title: str, total: float | None, done: float, unit: str) -> None:
        from rich import progress
        from rich.table import Column
        from rich.text import Text

        class Note(progress.ProgressColumn):
            def render(self, task: progress.Task) -> Text:
                return Text(task.fields["note"], no_wrap=True, overflow="ellipsis")

        # On a narrow terminal bar and note shrink: rich takes room from columns that may wrap first.
        columns = [
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=16),
            progress.TextColumn("{task.fields[count]}"),
            progress.TimeRemainingColumn(table_column=Column(no_wrap=True)),
            Note(),
        ]
        # By default rich estimates the time left from the last 30 s, in which a trial may not report.
        self._bar = progress.Progress(*columns, speed_estimate_period=LOOK_BACK_S)
        self._unit, self._start, self._first = unit, time.monotonic(), done
        self._task = self._bar.add_task(title, total=total, count="", note="")
        self._bar.update(self._task, completed=done)
        self._bar.start()

    def advance(self, amount: float = 1) -> None:
        self._bar.advance(self._task, amount)
        task = self._bar.tasks[0]
        self._bar.update(self._task, count=_count(task.completed, task.total, self._first, self._start, self._unit))

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=text)

    def close(self) -> None:
        self._bar.stop()


class _Lines:
    def __init__(self, title: str, total: float | None, done: float, unit: str, every_s: float) -> None:
        self._title, self._total, self._done, self._unit = title, total, done, unit
        self._first, self._start, self._printed, self._note = done, time.monotonic(), time.monotonic(), ""
        self._every_s = every_s

    def advance(self, amount: float = 1) -> None:
        self._done += amount
        if time.monotonic() - self._printed >= self._every_s:
            self._printed = time.monotonic()
            self._print()

    def note(self, text: str) -> None:
        self._note = text

    def close(self) -> None:
        self._print()

    def _print(self) -> None:
        count = _count(self._done, self._total, self._first, self._start, self._unit)
        left = ""
        elapsed, made = time.monotonic() - self._start, self._done - self._first
        if self._total and made and self._done < self._total:
            left = f", {(self._total - self._done) * elapsed / made:.0f} s left"
        print(f"{self._title}: {count}{left} {self._note}".rstrip(), file=sys.stderr, flush=True)


def _count(done: float, total: float | None, first: float, start: float, unit: str) -> str:
    rate = (done - first) / max(time.monotonic() - start, 1e-9)
    made = f"{done:,.2f}".removesuffix(".00")
    size = f"{made}/{total:,.0f}" if total else made
    return f"{size} {unit}, " + (f"{rate:,.1f} {unit}/s" if rate >= HOURLY_BELOW else f"{3600 * rate:,.1f} {unit}/h")


@contextmanager
def progress(
    title: str, total: float | None, unit: str, done: float = 0, *, line_every_s: float = 10.0
) -> Iterator[Progress]:
    """A progress display on stderr.

    Args:
        done: units that an earlier, interrupted run completed; they do not count for the rate.
        line_every_s: seconds between two lines where stderr is no terminal.
    """
    bar = sys.stderr.isatty()
    display = _Bar(title, total, done, unit) if bar else _Lines(title, total, done, unit, line_every_s)
    try:
        yield display
    finally:
        display.close()
