"""Children that a campaign limits, times and judges."""

from __future__ import annotations

import os
import signal
import time

from processes import ended as gone
from processes import until

from reliability.child import call


def test_a_child_ends_with_its_status_and_its_output(tmp_path):
    ended = call(lambda: print(os.getcwd()) or 3, cwd=tmp_path)
    assert (ended.code, ended.output, ended.timed_out) == (3, f"{tmp_path}\n", False)


def test_a_child_that_hangs_is_killed_with_its_own_children(tmp_path):
    def hang() -> None:
        if not os.fork():
            (tmp_path / "pid").write_text(str(os.getpid()))
        time.sleep(600)

    ended = call(hang, cwd=tmp_path, timeout_s=1)
    assert ended.timed_out and ended.code == -signal.SIGKILL
    pid = int((tmp_path / "pid").read_text())
    until(lambda: gone(pid), "the end of the child's child", patience_s=10)


def test_a_child_gets_no_more_memory_than_its_limit(tmp_path):
    ended = call(lambda: len(bytearray(1 << 30)) and 0, cwd=tmp_path, memory=1 << 26)
    assert ended.code == 1 and "MemoryError" in ended.output


def test_a_refusal_is_a_sentence_and_no_traceback(tmp_path):
    def ending(*lines: str) -> bool:
        return call(lambda: print(*lines, sep="\n") or 2, cwd=tmp_path).refused()

    assert ending("reading", "pipeline train: no such file; name another")
    assert not ending("Traceback (most recent call last):", "pipeline train: odd")
    assert not ending("killed")
