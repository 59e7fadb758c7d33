"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from pipeline.atomic import read_json, replacing, write_json


def test_what_stood_there_stays_until_the_block_has_ended_well(tmp_path):
    path = tmp_path / "value.json"
    write_json(path, {"a": 1})
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["value.json"]


def test_a_folder_is_replaced_whole(tmp_path):
    out = tmp_path / "out"
    for name in ("first", "second"):
        with replacing(out) as part:
            part.mkdir()
            (part / name).touch()
    assert [p.name for p in out.iterdir()] == ["second"]


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_are_not(tmp_path):
    host = socket.gethostname()
    dead = tmp_path / f".x.{host}.4194305.0000.part"  # above the kernel's largest process number
    alive = tmp_path / f".x.{host}.{os.getpid()}.0000.part"
    for part in (dead, alive):
        part.mkdir()
    write_json(tmp_path / "x", 1)
    assert not dead.exists() and alive.exists()


KILLED = """
import os, shutil, sys
from pipeline import atomic

left = int(sys.argv[1])

def dying(call):
    def wrapped(*arguments, **named):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*arguments, **named)
    return wrapped

os.replace, shutil.rmtree = dying(os.replace), dying(shutil.rmtree)
with atomic.replacing("out") as part:
    part.mkdir()
    (part / "new").touch()
"""


@pytest.mark.parametrize("calls", range(4))  # renames and removals before the kill; the last is not killed
def test_a_kill_while_a_folder_is_replaced_leaves_the_old_one_or_the_new_one(calls, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    process = subprocess.run([sys.executable, "-c", KILLED, str(calls)], cwd=tmp_path, check=False)
    assert process.returncode == (9 if calls < 3 else 0)
    with pytest.raises(RuntimeError), replacing(tmp_path / "out"):
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["old" if calls < 2 else "new"]


def test_a_folder_whose_rename_fails_leaves_the_old_one(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    replace = os.replace

    def full(source, target):
        if str(source).endswith(".part"):
            raise OSError("no space")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="no space"), replacing(tmp_path / "out") as part:
        part.mkdir()
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_folder_is_replaced_and_its_target_kept(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "elsewhere")
    with replacing(tmp_path / "out") as part:
        part.mkdir()
    assert (tmp_path / "elsewhere").is_dir() and not (tmp_path / "out").is_symlink()


def test_not_a_number_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x", float("nan"))
    assert not any(tmp_path.iterdir())
