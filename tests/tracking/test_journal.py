"""The journal: appended, never torn, nothing repeated."""

from __future__ import annotations

import json
import random
import resource
import time

import pytest

from pipeline.tracking.journal import NAME, Journal, read


def events(folder) -> list[dict]:
    return read(folder / NAME)[0]


def test_events_are_read_back_in_order_with_their_times(tmp_path):
    journal = Journal(tmp_path)
    journal.begin("run", "digits", {"lr": 0.1}, {"tag": "value"})
    journal.metrics(1, {"train/loss": 2.5})
    journal.end("FINISHED")
    assert [event["event"] for event in events(tmp_path)] == ["begin", "metrics", "end"]
    assert events(tmp_path) == sorted(events(tmp_path), key=lambda event: event["time"])


def test_a_resumed_run_repeats_no_step(tmp_path):
    journal = Journal(tmp_path)
    for step in (1, 2, 3):
        journal.metrics(step, {"train/loss": float(step)})
    again = Journal(tmp_path)
    for step in (2, 3, 4):
        again.metrics(step, {"train/loss": float(step), "val/err1": 0.5})
    steps = [(event["step"], sorted(event["values"])) for event in events(tmp_path)]
    assert steps[:3] == [(1, ["train/loss"]), (2, ["train/loss"]), (3, ["train/loss"])]
    assert steps[3:] == [(2, ["val/err1"]), (3, ["val/err1"]), (4, ["train/loss", "val/err1"])]


def test_a_line_that_a_crash_cut_short_is_dropped(tmp_path):
    journal = Journal(tmp_path)
    journal.metrics(1, {"a": 1.0})
    with (tmp_path / NAME).open("a") as stream:
        stream.write('{"event": "metr')
    assert len(events(tmp_path)) == 1
    Journal(tmp_path).metrics(2, {"a": 2.0})
    assert [event["step"] for event in events(tmp_path)] == [1, 2]


def test_nan_and_infinity_are_written_as_strings(tmp_path):
    Journal(tmp_path).metrics(1, {"a": float("nan"), "b": float("inf")})
    line = json.loads((tmp_path / NAME).read_text(), parse_constant=lambda name: 1 / 0)
    assert [float(value) == float(value) for value in line["values"].values()] == [False, True]


def test_a_file_outside_of_the_runs_folder_is_no_artifact(tmp_path):
    with pytest.raises(ValueError, match="evaluate"):
        Journal(tmp_path / "run").artifact(tmp_path / "evaluate.json", "evaluation")
    assert events(tmp_path / "run") == []


def test_reading_continues_from_an_offset(tmp_path):
    journal = Journal(tmp_path)
    journal.metrics(1, {"a": 1.0})
    _, offset = read(tmp_path / NAME)
    journal.metrics(2, {"a": 2.0})
    assert [event["step"] for event in read(tmp_path / NAME, offset)[0]] == [2]


def test_a_full_disk_leaves_whole_lines(tmp_path):
    journal = Journal(tmp_path)
    journal.metrics(1, {"a": 1.0})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / NAME).stat().st_size + 20, hard))
    try:
        with pytest.raises(OSError, match="too large"):
            journal.metrics(2, {"a": 2.0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.metrics(3, {"a": 3.0})
    assert [event["step"] for event in events(tmp_path)] == [1, 3]


def test_a_torn_line_in_the_middle_is_left_out_and_said(tmp_path, capsys):
    for step in (1, 2):
        Journal(tmp_path).metrics(step, {"a": 1.0})
    lines = (tmp_path / NAME).read_bytes().splitlines()
    (tmp_path / NAME).write_bytes(b"\n".join([lines[0][:40], lines[1], b""]))
    Journal(tmp_path).metrics(3, {"a": 1.0})
    for _ in range(2):
        assert [event["step"] for event in events(tmp_path)] == [2, 3]
    assert capsys.readouterr().err.count("1 of 2 lines are damaged and left out") == 1


def test_no_flipped_bit_changes_an_event(tmp_path):
    journal, chance = Journal(tmp_path), random.Random(0)
    journal.begin("run", "digits", {"lr": 0.1}, {"tag": "value"})
    for step in range(3):
        journal.metrics(step, {"train/loss": step + 0.5})
    whole, good = (tmp_path / NAME).read_bytes(), events(tmp_path)
    for _ in range(300):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (tmp_path / NAME).write_bytes(content)
        left = [{key: event[key] for key in event if key in good[0] or key in good[1]} for event in events(tmp_path)]
        assert all(event in good for event in left) and len(left) >= len(good) - 2


def test_a_line_without_its_checksum_is_damaged(tmp_path, capsys):
    (tmp_path / NAME).write_text('{"time": 1, "event": "metrics", "step": 5, "values": {"a": 1.0}}\n')
    Journal(tmp_path).metrics(6, {"a": 2.0})
    assert [event["values"] for event in events(tmp_path)] == [{"a": 2.0}]
    assert "1 of 1 lines are damaged and left out" in capsys.readouterr().err


def test_a_run_that_is_written_down_at_its_end_begins_when_its_work_began(tmp_path):
    journal, began = Journal(tmp_path), time.monotonic() - 90
    for _ in range(2):
        journal.begin("n", "e", {}, {}, began)
        journal.end("FINISHED")
        journal = Journal(tmp_path)
    first, ended, second, last = (event["time"] for event in events(tmp_path))
    assert 90_000 <= ended - first < 100_000
    assert ended <= second <= last  # the work of a second begin is not counted before the end of the first


def test_times_do_not_go_backwards_with_the_clock(tmp_path, monkeypatch):
    journal = Journal(tmp_path)
    journal.metrics(1, {"a": 1.0})
    earlier = time.time_ns() - 3600 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: earlier)
    journal.metrics(2, {"a": 1.0})
    Journal(tmp_path).metrics(3, {"a": 1.0})
    times = [event["time"] for event in events(tmp_path)]
    assert times == sorted(times) and times[-1] - times[0] < 60_000
