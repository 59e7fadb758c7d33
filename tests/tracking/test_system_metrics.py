"""System metrics go through the journal: MLflow has every sample, however long it was away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from imports import ROOT
from processes import until

from pipeline.tracking import shipper
from pipeline.tracking.journal import NAME, Journal, read
from pipeline.tracking.location import KEY_TAG, Location, client
from pipeline.tracking.shipper import Shipper, run_id, ship
from pipeline.tracking.system_metrics import PREFIX, SystemMetrics

CPU = f"{PREFIX}cpu_utilization_percentage"


def samples(folder: Path) -> list[tuple[int, int, float]]:
    """Step, time and value of each."""
    events = [event for event in read(folder / NAME)[0] if CPU in event.get("values", ())]
    return [(event["step"], event["time"], event["values"][CPU]) for event in events]


def begin(folder: Path) -> Journal:
    written = Journal(folder)
    written.begin("run-k", "digits", {"lr": 0.1}, {KEY_TAG: "k"})
    return written


def test_samples_are_numbered_over_all_attempts(tmp_path: Path) -> None:
    for attempt in (1, 2):
        sampling = SystemMetrics(Journal(tmp_path), every_s=0.05)
        sampling.start()
        until(lambda attempt=attempt: len(samples(tmp_path)) >= 3 * attempt, "three samples")
        sampling.close()
        ended = len(samples(tmp_path))
        time.sleep(0.2)
        assert len(samples(tmp_path)) == ended
    taken = samples(tmp_path)
    assert [step for step, _, _ in taken] == list(range(len(taken)))
    times = [milliseconds for _, milliseconds, _ in taken]
    assert all(40 <= after - before < 10_000 for before, after in pairwise(times[:3]))
    (event, *_) = read(tmp_path / NAME)[0]
    assert {f"{PREFIX}{name}" for name in ("system_memory_usage_megabytes", "disk_usage_percentage")} <= event[
        "values"
    ].keys()
    assert all(0 <= value <= 100 for _, _, value in taken)


def test_mlflow_gets_the_samples_that_it_missed_and_the_run_is_otherwise_unchanged(
    tmp_path: Path, location: Location, closed_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shipper, "PERIOD_S", 0.05)
    folder, dead = tmp_path / "k", Location(f"http://127.0.0.1:{closed_port}")
    for attempt, to in ((0, dead), (1, location)):
        written = begin(folder)
        following = Shipper(folder, to, SystemMetrics(written, every_s=0.05), at_once=False)
        written.metrics(attempt, {"train/loss": float(attempt)})
        until(lambda attempt=attempt: len(samples(folder)) >= 4 * (attempt + 1), "samples")
        written.end("FINISHED")
        following.close()
    ship(folder, location)  # what was taken before the thread ended
    run = run_id(folder, location)
    assert run is not None
    mlflow = client(location)
    history = [(point.step, point.timestamp, point.value) for point in mlflow.get_metric_history(run, CPU)]
    assert sorted(history) == samples(folder)
    assert [(point.step, point.value) for point in mlflow.get_metric_history(run, "train/loss")] == [(0, 0.0), (1, 1.0)]
    assert mlflow.get_run(run).info.status == "FINISHED"


def test_neither_samples_nor_their_shipping_import_mlflow_before_the_first_metrics(tmp_path: Path) -> None:
    begin(tmp_path / "k")
    code = f"""
import sys, time
from pathlib import Path
from pipeline.tracking.journal import Journal
from pipeline.tracking.location import Location
from pipeline.tracking.shipper import Shipper
from pipeline.tracking.system_metrics import SystemMetrics
folder = Path({str(tmp_path / "k")!r})
journal = Journal(folder)
following = Shipper(folder, Location("http://127.0.0.1:1"), SystemMetrics(journal, 0.05), at_once=False)
journal.metrics(0, {{"system/x": 1.0}})  # which are no metrics of a training
time.sleep(0.5)
assert not {{"mlflow", "psutil"}} & set(sys.modules)
journal.metrics(1, {{"train/loss": 1.0}})
while "mlflow.system_metrics" not in sys.modules:
    time.sleep(0.01)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr


def test_a_full_disk_ends_the_samples_and_not_the_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    class Full(Journal):
        def metrics(self, step: int, values: dict[str, float]) -> None:
            raise OSError(28, "No space left on device")

    sampling = SystemMetrics(Full(tmp_path), every_s=0.01)
    sampling.start()
    until(lambda: "gets no more system metrics" in caplog.text, "the line")
    sampling.close()


def test_mlflow_is_quiet_and_reports_to_nobody_when_the_metrics_import_it_first() -> None:
    code = """
import logging
from pipeline.tracking.system_metrics import _monitors
_monitors()
from mlflow.telemetry.utils import is_telemetry_disabled
print(logging.getLogger("mlflow").level == logging.WARNING, is_telemetry_disabled())
"""
    env = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", "True"]
