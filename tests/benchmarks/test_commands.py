from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from benchmarks.commands import run, workspace
from pipeline.cli import main


def test_a_workspace_holds_the_configuration_and_the_store(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "made").mkdir()
    for _ in range(2):  # again: what is there stays
        root = workspace(tmp_path / "root", "digits", tmp_path / "made")
    assert (root / "data" / "store" / "digits").resolve() == tmp_path / "made"
    monkeypatch.chdir(root)
    assert main(["train", "--cfg", "job"]) == 0
    assert "name: digits" in capsys.readouterr().out


def test_a_command_runs_in_its_folder_and_is_timed_and_watched(tmp_path: Path) -> None:
    (tmp_path / "waits.py").write_text("import time, pathlib; time.sleep(0.3); pathlib.Path('made').touch()")
    seen: list[int] = []
    start = time.monotonic()
    seconds = run(tmp_path, "waits", watch=seen.append)
    assert 0.3 <= seconds <= time.monotonic() - start
    assert (tmp_path / "made").exists()
    assert len(set(seen)) == 1


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text("import sys; sys.exit('no such thing')")
    with pytest.raises(ValueError, match=r"fails now ended with exit code 1:\nno such thing"):
        run(tmp_path, "fails", "now")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_late_command_is_ended_with_its_children(tmp_path: Path) -> None:
    (tmp_path / "late.py").write_text(
        "import pathlib, subprocess, time\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path('child').write_text(str(child.pid))\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(TimeoutError, match="late took more than 1 s"):
        run(tmp_path, "late", patience_s=1)
    stat = Path("/proc") / (tmp_path / "child").read_text() / "stat"
    until = time.monotonic() + 10
    while stat.exists() and stat.read_text().split()[2] != "Z" and time.monotonic() < until:
        time.sleep(0.01)
    assert not stat.exists() or stat.read_text().split()[2] == "Z"
