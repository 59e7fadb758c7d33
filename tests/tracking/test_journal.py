"""The journal: appended, never torn, nothing repeated."""

from __future__ import annotations

import json

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


def test_reading_continues_from_an_offset(tmp_path):
    journal = Journal(tmp_path)
    journal.metrics(1, {"a": 1.0})
    _, offset = read(tmp_path / NAME)
    journal.metrics(2, {"a": 2.0})
    assert [event["step"] for event in read(tmp_path / NAME, offset)[0]] == [2]
