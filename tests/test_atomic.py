"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import random
import socket
import subprocess
import sys

import numpy as np
import pytest

from pipeline.atomic import read_array, read_if_whole, read_json, replacing, scratch_folder, write_array, write_json
from pipeline.errors import DamagedError


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
    dead.mkdir()
    with scratch_folder(tmp_path / "x") as folder:
        assert not dead.exists() and alive.exists() and folder.parent == tmp_path
        (folder / "file").touch()
    assert not folder.exists()


def test_leftovers_of_another_machine_and_of_a_number_given_again_are_swept_after_a_day_without_a_write(tmp_path):
    host = socket.gethostname()
    names = [f".x.{where}.{os.getpid()}.{part}.part" for where in (host, "pod-7.example") for part in ("0a", "0b")]
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        if not name.endswith("0b.part"):
            for path in (tmp_path / name / "file", tmp_path / name):
                os.utime(path, (1e9, 1e9))
    os.utime(tmp_path / names[1], (1e9, 1e9))  # its file is new
    write_json(tmp_path / "x", 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([names[1], names[3], "x"])


def test_a_folder_is_replaced_though_a_process_maps_files_of_the_old_one_on_nfs(tmp_path, monkeypatch):
    def in_use(path, **_):
        raise OSError(errno.ENOTEMPTY, "Directory not empty", path)

    out = tmp_path / "out"
    with monkeypatch.context() as mapped:
        mapped.setattr(os, "rmdir", in_use)
        for name in ("first", "second", "third"):
            with replacing(out) as part:
                part.mkdir()
                (part / name).touch()
            assert [path.name for path in out.iterdir()] == [name]
    left = list(tmp_path.glob(".out.*"))
    for path in left:
        path.rename(str(path).replace(f".{os.getpid()}.", ".4194305."))  # of a process that has ended
    out.rename(tmp_path / "elsewhere")
    with pytest.raises(RuntimeError), replacing(out):
        raise RuntimeError
    assert len(left) == 2 and [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


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


@pytest.mark.parametrize("calls", range(5))  # renames and removals before the kill; the last is not killed
def test_a_kill_while_a_folder_is_replaced_leaves_the_old_one_or_the_new_one(calls, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    process = subprocess.run([sys.executable, "-c", KILLED, str(calls)], cwd=tmp_path, check=False)
    assert process.returncode == (9 if calls < 4 else 0)
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


@pytest.mark.parametrize(
    "values", [np.eye(3, dtype=np.float32), np.empty(0, [("image", "<i8"), ("corners", "<f4", 4)])]
)
def test_an_array_is_read_as_it_was_written(values, tmp_path):
    written, read = write_array(tmp_path / "a.npy", values), read_array(tmp_path / "a.npy", "")
    assert (
        written.dtype == read.dtype == values.dtype and np.array_equal(written, values) and np.array_equal(read, values)
    )


def test_an_absent_array_is_none_and_so_is_a_damaged_one_which_is_reported(tmp_path, capsys):
    path = tmp_path / "a.npy"
    assert read_array(path, "it is made again") is None and not capsys.readouterr().err
    write_array(path, np.eye(3))
    whole = path.read_bytes()
    path.write_bytes(whole[:150] + b"x" + whole[151:])  # of a value
    assert read_array(path, "it is made again") is None
    assert capsys.readouterr().err == f"{path} is damaged; it is made again\n"


def test_not_a_number_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x", float("nan"))
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", [{"a": [1, 2.5, None], "b": {"ä": "text"}}, [{"a": 1}, {"a": 2}], 3])
def test_json_comes_back_or_its_damage_is_named(value, tmp_path):
    path, chance = tmp_path / "value.json", random.Random(0)
    write_json(path, value)
    whole = path.read_bytes()
    for _ in range(200):
        content = bytearray(whole)
        if chance.random() < 0.3:
            del content[chance.randrange(len(content)) :]
        else:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)
        try:
            assert read_json(path) == value or b'"checksum"' not in content
        except DamagedError as error:
            assert str(error).startswith(f"{path} is damaged")


def test_json_without_a_checksum_is_taken_as_it_is(tmp_path):
    path = tmp_path / "value.json"
    for value in ({"a": 1}, [1, 2]):
        path.write_text(json.dumps(value))
        assert read_json(path) == value
        write_json(path, value, checksum=False)
        assert json.loads(path.read_text()) == value


def test_json_that_is_made_again_may_be_absent_or_damaged(tmp_path, capsys):
    path = tmp_path / "value.json"
    assert read_if_whole(path) == {}
    path.write_text('{"a": 1')
    assert read_if_whole(path) == {}
    assert "value.json is damaged" in capsys.readouterr().err
