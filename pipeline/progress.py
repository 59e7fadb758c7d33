"""Progress of long work on stderr: a bar with rate and remaining time on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

LOOK_BACK_S = 3600.0
HOURLY_BELOW = 0.1  # units a second; a lower rate is given per hour


class Progress(ABC):
    """Counts units of work; its subclasses display the count."""

    def __init__(self, title: str, total: float | None, unit: str, done: float) -> None:
        self.title, self.total, self.unit, self.done, self.text = title, total, unit, done, ""
        self._first, self._start = done, time.monotonic()

    def advance(self, amount: float = 1) -> None:
        """Counts `amount` units, which may be a fraction of one."""
        self.done += amount
        self.update()

    def skip(self, amount: float) -> None:
        """Counts units that an earlier run completed; the rate leaves them out."""
        self.done, self._first = self.done + amount, self._first + amount
        self.update()

    def note(self, text: str) -> None:
        """Sets the text beside the count, for example the latest loss."""
        self.text = text

    @abstractmethod
    def update(self) -> None:
        """Displays the present count."""

    @abstractmethod
    def close(self) -> None:
        """Ends the display."""

    @property
    def rate(self) -> float:
        """Units a second, of this process alone."""
        return (self.done - self._first) / max(time.monotonic() - self._start, 1e-9)

    @property
    def count(self) -> str:
        done, rate = f"{self.done:,.2f}".removesuffix(".00"), self.rate
        size = f"{done}/{self.total:,.0f}" if self.total else done
        speed = f"{rate:,.1f} {self.unit}/s" if rate >= HOURLY_BELOW else f"{3600 * rate:,.1f} {self.unit}/h"
        return f"{size} {self.unit}, {speed}"


class _Bar(Progress):
    def __init__(self, title: str, total: float | None, unit: str, done: float) -> None:
        from rich import progress
        from rich.console import Console
        from rich.table import Column
        from rich.text import Text

        class Note(progress.ProgressColumn):
            def render(self, task: progress.Task) -> Text:
                return Text(task.fields["note"], no_wrap=True, overflow="ellipsis")

        super().__init__(title, total, unit, done)
        # On a narrow terminal bar and note shrink: rich takes room from columns that may wrap first.
        columns = [
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=16),
            progress.TextColumn("{task.fields[count]}"),
            progress.TimeRemainingColumn(table_column=Column(no_wrap=True)),
            Note(),
        ]
        self._bar = progress.Progress(
            *columns,
            console=Console(stderr=True),
            speed_estimate_period=LOOK_BACK_S,  # by default 30 s, in which a trial may report nothing
            redirect_stdout=sys.stdout.isatty(),  # what is printed goes above the bar, where no file would get it
        )
        self._task = self._bar.add_task(title, total=total, completed=int(done), count="", note="")
        self._bar.start()

    def note(self, text: str) -> None:
        super().note(text)
        self._bar.update(self._task, note=text)

    def skip(self, amount: float) -> None:
        super().skip(amount)
        # rich forgets its samples, among which the jump would count as speed.
        self._bar.reset(self._task, total=self.total, completed=int(self.done), count=self.count, note=self.text)

    def update(self) -> None:
        self._bar.update(self._task, completed=self.done, count=self.count)

    def close(self) -> None:
        self._bar.stop()


class _Lines(Progress):
    def __init__(self, title: str, total: float | None, unit: str, done: float, every_s: float) -> None:
        super().__init__(title, total, unit, done)
        self._every_s, self._printed = every_s, time.monotonic()

    def update(self) -> None:
        if time.monotonic() - self._printed >= self._every_s:
            self._printed = time.monotonic()
            self.close()

    def close(self) -> None:
        remaining = ""
        if self.total and self.rate and self.done < self.total:
            remaining = f", {timedelta(seconds=round((self.total - self.done) / self.rate))} left"
        print(f"{self.title}: {self.count}{remaining} {self.text}".rstrip(), file=sys.stderr, flush=True)


@contextmanager
def progress(
    title: str, total: float | None, unit: str, done: float = 0, *, line_every_s: float = 10.0
) -> Iterator[Progress]:
    """A progress display.

    Args:
        done: units that an earlier, interrupted run completed; the rate leaves them out.
        line_every_s: seconds between two lines where stderr is no terminal.
    """
    terminal = sys.stderr.isatty()
    display = _Bar(title, total, unit, done) if terminal else _Lines(title, total, unit, done, line_every_s)
    try:
        yield display
    finally:
        display.close()
