from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from processes import ended, until

from pipeline.parent import _runs, remove_torn_lock

STAGE = "import os, time; from pipeline.parent import end_with_dvc; end_with_dvc(); print(os.getpid(), flush=True); time.sleep(60)"
# What stands between DVC and the stage: nothing, a shell that waits, a rank that another rank started.
BETWEEN = {
    "nothing": "subprocess.run([sys.executable, '-c', stage])",
    "a shell": "subprocess.run(['/bin/sh', '-c', f'{sys.executable} -c \"$STAGE\"; exit 0'], env={**os.environ, 'STAGE': stage})",
    "rank zero": "subprocess.run([sys.executable, '-c', f'import subprocess, sys; subprocess.run([sys.executable, \"-c\", {stage!r}])'])",
}


def start(between: str, stage_name: str | None) -> tuple[subprocess.Popen[str], int]:
    """A process in DVC's place, and the pid of the stage that it started."""
    environment = "" if stage_name is None else f"os.environ['DVC_STAGE'] = {stage_name!r}; "
    script = f"import os, subprocess, sys; {environment}stage = {STAGE!r}; {BETWEEN[between]}"
    dvc = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert dvc.stdout is not None
    return dvc, int(dvc.stdout.readline())


@pytest.mark.parametrize("between", BETWEEN)
def test_a_stage_ends_with_dvc_whatever_stands_between(between: str) -> None:
    dvc, stage = start(between, "train")
    assert not ended(stage)
    dvc.kill()
    dvc.wait()
    until(lambda: ended(stage), "the stage's end", patience_s=20)


def test_dvc_may_go_while_it_is_asked_how_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        dvc = psutil.Process(process.pid)
        assert _runs(dvc)
    monkeypatch.setattr(dvc, "is_running", lambda: True)  # the answer of the moment before
    assert not _runs(dvc)


def test_a_stage_stays_while_dvc_does() -> None:
    dvc, stage = start("a shell", "train")
    time.sleep(1.5)
    assert not ended(stage)
    os.kill(stage, signal.SIGKILL)
    dvc.wait()


def test_a_stage_inside_a_stage_ends_with_its_own_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_STAGE", "outer")
    dvc, stage = start("nothing", "train")
    dvc.kill()
    dvc.wait()
    until(lambda: ended(stage), "the stage's end", patience_s=20)


def test_a_command_that_no_dvc_started_outlives_its_parent() -> None:
    parent, command = start("nothing", None)
    parent.kill()
    parent.wait()
    time.sleep(1.5)
    assert not ended(command)
    os.kill(command, signal.SIGKILL)


def test_a_lock_that_a_killed_dvc_left_half_written_is_removed_and_a_whole_one_is_not(tmp_path):
    lock = tmp_path / ".dvc" / "tmp" / "rwlock"
    assert not remove_torn_lock(tmp_path)
    lock.parent.mkdir(parents=True)
    lock.write_text('{"/data": {"read": []}}')
    assert not remove_torn_lock(tmp_path) and lock.exists()
    lock.write_text("")
    assert remove_torn_lock(tmp_path) and not lock.exists()
