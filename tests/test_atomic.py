"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import socket

import pytest

from pipeline.atomic import read_json, replacing, sha256, write_json


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


def test_not_a_number_is_no_json(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x", float("nan"))
    assert not any(tmp_path.iterdir())


def test_sha256_is_the_published_one_of_no_bytes(tmp_path):
    (tmp_path / "empty").touch()
    assert sha256(tmp_path / "empty") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
