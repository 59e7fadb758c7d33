from __future__ import annotations

import os
import re
import subprocess
import sys
import time

import pytest

from pipeline.progress import progress


def test_off_a_terminal_a_line_tells_count_rate_and_note_at_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("images", 4, "images") as bar:
        for _ in range(4):
            bar.advance()
        bar.note("loss 0.5")
    assert re.fullmatch(r"images: 4/4 images, [\d,.]+ images/s loss 0\.5\n", capsys.readouterr().err)


def test_off_a_terminal_lines_come_now_and_then_with_the_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("steps", 1000, "steps", line_every_s=0.02) as bar:
        for _ in range(20):
            time.sleep(0.005)
            bar.advance()
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 12 and re.search(r"/1,000 steps, .*, 0:00:\d\d left", lines[0])


def test_what_an_earlier_run_had_made_counts_as_done_and_not_as_speed(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("steps", 1_000_000, "steps", done=999_999) as bar:
        time.sleep(0.02)
        bar.advance()
    line = capsys.readouterr().err
    assert line.startswith("steps: 1,000,000/1,000,000 steps, ")
    assert float(re.findall(r"([\d,.]+) steps/s", line)[0].replace(",", "")) < 100


def test_what_turns_out_to_be_made_counts_as_done_and_not_as_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for terminal in (False, True):
        monkeypatch.setattr(sys.stderr, "isatty", lambda terminal=terminal: terminal, raising=False)
        with progress("steps", 1000, "steps") as bar:
            bar.skip(999)
            assert bar.rate == 0
            time.sleep(0.02)
            bar.advance()
            assert bar.done == 1000 and 0 < bar.rate < 100
        assert "1,000/1,000" in "".join(capsys.readouterr())


def test_what_takes_hours_shows_its_parts_and_is_counted_by_the_hour(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("sweep", 4, "trials") as bar:
        time.sleep(0.02)
        bar.advance(0.001)  # 0.05 a second at most
    assert re.match(r"sweep: 0/4 trials, [\d.]+ trials/h, (\d+ days?, )?\d+:\d\d:\d\d left", capsys.readouterr().err)
    with progress("sweep", 4, "trials") as bar:
        bar.advance(0.25)
    assert capsys.readouterr().err.startswith("sweep: 0.25/4 trials, ")


def test_the_display_ends_with_an_error_too(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(KeyError), progress("steps", None, "steps") as bar:
        bar.advance()
        raise KeyError
    assert capsys.readouterr().err.startswith("steps: 1 steps, ")


def test_the_bar_of_a_narrow_terminal_shows_the_time_left_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    for name, value in {"TERM": "dumb", "COLUMNS": "70", "LINES": "24"}.items():  # no colours between the words
        monkeypatch.setenv(name, value)
    with progress("cifar10-resnet20", 1000, "steps") as bar:
        for _ in range(3):
            time.sleep(0.01)
            bar.advance()
        bar.note("val/loss 1.564 val/err1 0.3240 [val/err5] 0.06272")
    last = "".join(capsys.readouterr()).rstrip().splitlines()[-1]
    assert re.search(r"3/1,000 steps, [\d.,]+ steps/s \d:\d\d:\d\d val/", last) and last.endswith("…"), last


ANSWERS = """
from pipeline.progress import progress
with progress("images", 3, "images") as bar:
    for name in ("a.png", "b.png", "c.png"):
        print(name)
        bar.advance()
"""


def test_the_bar_stays_on_the_terminal_when_stdout_goes_elsewhere() -> None:
    terminal, end = os.openpty()
    command = [sys.executable, "-c", ANSWERS]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, text=True, check=True)
    shown = os.read(terminal, 1 << 16).decode()
    for descriptor in (terminal, end):
        os.close(descriptor)
    assert done.stdout == "a.png\nb.png\nc.png\n"
    assert "3/3 images" in shown and "a.png" not in shown
