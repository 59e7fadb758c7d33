"""Errors at the border: the system's become a sentence with exit status 74 or 2, our own a traceback that asks for a report."""

from __future__ import annotations

import errno
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from imports import ROOT
from runs import composed

from pipeline import anchor, border, cli
from pipeline.atomic import replacing
from pipeline.border import MACHINE, system_error
from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.errors import PipelineError
from pipeline.run.run import identify


def to_a_full_disk() -> None:
    with open("/dev/full", "w") as stream:
        stream.write("x" * 100_000)


def over_a_file_on_a_full_disk() -> None:
    with replacing("result.json") as part:
        part.symlink_to("/dev/full")
        part.write_text("x" * 100_000)


def an_array_to_a_full_disk() -> None:
    import numpy as np

    with Path("/dev/full").open("wb") as stream:
        np.save(stream, np.zeros(1 << 20))


def to_a_full_database() -> None:
    database = sqlite3.connect("full.db")
    database.execute("PRAGMA max_page_count = 2")
    database.execute("CREATE TABLE runs (name TEXT)")
    database.execute("INSERT INTO runs VALUES (?)", ["x" * 100_000])


def to_a_read_only_database() -> None:
    sqlite3.connect("read.db").execute("CREATE TABLE runs (name TEXT)").connection.close()
    sqlite3.connect("file:read.db?mode=ro", uri=True).execute("INSERT INTO runs VALUES ('x')")


def more_than_memory() -> None:
    import torch

    torch.empty(1 << 52)


def more_than_memory_in_numpy() -> None:
    import numpy as np

    np.empty(1 << 52)


def more_than_memory_in_an_import() -> None:
    raise SystemError("error return without exception set")  # as CPython's importlib did with 270 KB left


def behind_another_error() -> None:
    try:
        to_a_full_disk()
    except OSError as error:
        raise RuntimeError("the checkpoint was not written") from error


def below_a_file() -> None:
    Path("file").touch()
    Path("file/below").mkdir()


def over_a_file() -> None:
    Path("file").touch()
    Path("file").mkdir()


def into_a_folder() -> None:
    Path("runs").mkdir()
    Path("runs").write_text("")


def through_a_loop() -> None:
    Path("loop").symlink_to("loop")
    Path("loop").read_text()


@pytest.mark.parametrize(
    ("work", "code", "names"),
    [
        (to_a_full_disk, 74, "disk is full"),
        (over_a_file_on_a_full_disk, 74, "result.json could not be written"),
        (an_array_to_a_full_disk, 74, "disk is full"),
        (to_a_full_database, 74, "disk is full"),
        (to_a_read_only_database, 74, "read-only"),
        (more_than_memory, 74, "memory"),
        (more_than_memory_in_numpy, 74, "memory"),
        (more_than_memory_in_an_import, 74, "memory"),
        (behind_another_error, 74, "disk is full"),
        (below_a_file, 2, "file/below"),
        (over_a_file, 2, "file"),
        (into_a_folder, 2, "runs"),
        (through_a_loop, 2, "loop"),
        (lambda: __import__("absent_package"), 2, "absent_package"),
        (lambda: Path("x" * 300).touch(), 2, "xxx"),
        (lambda: socket.socket(socket.AF_UNIX).bind("x" * 200), 2, "TMPDIR=/tmp"),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    work: Callable[[], None], code: int, names: str, workspace, monkeypatch, capsys
):
    monkeypatch.chdir(workspace())
    monkeypatch.setattr("pipeline.stages.sync.run", lambda *_: work())
    assert cli.main(["sync"]) == code
    printed = capsys.readouterr().err
    assert printed.startswith("pipeline sync: ") and names in printed and printed.count("\n") == 1


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN])
def test_a_network_file_system_that_does_not_answer_is_the_machines_failure(code: int):
    sentence = "the network file system of /mnt/runs/k/last.ckpt does not answer; mount it again, then run the same command again"
    assert system_error(OSError(code, os.strerror(code), "/mnt/runs/k/last.ckpt")) == (sentence, MACHINE)
    assert (system_error(OSError(code, os.strerror(code))) is None) == (code != errno.ESTALE)  # of a socket


def test_another_folder_is_advised_only_for_files_in_the_folders_that_the_configuration_names(monkeypatch):
    named: dict[str, str] = {}
    for module in (anchor, border):
        monkeypatch.setattr(module, "folders", named)
    monkeypatch.setenv("PIPELINE_MLRUNS", "/shared/mlruns")
    anchor.anchor(from_dict(compose(ROOT, ["paths.runs=/data/runs"])), ROOT)

    def told(code: int, file: str | None) -> str:
        sentence, status = system_error(OSError(code, os.strerror(code), file)) or ("", 0)
        assert status == MACHINE
        return sentence

    read_only = "is on a read-only file system; mount it for writing"
    assert told(errno.EROFS, "/home/me/.ray/auth_token") == f"/home/me/.ray/auth_token {read_only}"
    assert told(errno.EROFS, "/data/runs/k/run.json") == (
        f"/data/runs/k/run.json {read_only}, or name another folder (paths.runs)"
    )
    assert told(errno.EROFS, None) == f"a file {read_only}, or name another folder (paths.runs, PIPELINE_MLRUNS)"
    assert told(errno.ENOLCK, "/shared/mlruns/mlflow.db.lock") == (
        "the file system of /shared/mlruns/mlflow.db.lock takes no locks; mount it with locks, or name another folder "
        "(PIPELINE_MLRUNS)"
    )


def test_a_defect_shows_where_and_asks_for_a_report(workspace, monkeypatch, capsys):
    monkeypatch.chdir(workspace())
    monkeypatch.setattr("pipeline.anchor.anchor", lambda *_: {}["absent"])
    assert cli.main(["sync"]) == 1
    *above, last = capsys.readouterr().err.splitlines()
    assert "Traceback" in above[0] and last.startswith("pipeline sync: this is a defect")
    assert "KeyError in pipeline/cli.py, line" in last and "resnet-pipeline 0" in last


def test_neither_a_defects_traceback_nor_a_log_line_holds_a_credential(workspace):
    root, secret = workspace(), "hunter2-hunter2"
    code = f"""
import logging
from pipeline import cli
from pipeline.stages import sync
def failing(*_):
    logging.getLogger("library").warning("no answer of https://me:{secret}@host/x")
    raise KeyError("postgresql://me:{secret}@host/mlflow")
sync.run = failing
raise SystemExit(cli.main(["sync"]))
"""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and secret not in done.stderr + done.stdout
    for line in ("no answer of https://***@host/x", "KeyError: 'postgresql://***@host/mlflow'"):
        assert line in done.stderr


def test_several_mistakes_have_a_line_each_with_the_commands_name(workspace, monkeypatch, capsys):
    def refuse(*_: object) -> None:
        raise PipelineError("seed=x: a number\nrecipe.lr=y: a number")

    monkeypatch.chdir(workspace())
    monkeypatch.setattr("pipeline.stages.sync.run", refuse)
    assert cli.main(["sync"]) == 2
    assert [line.split("=")[0] for line in capsys.readouterr().err.splitlines()] == [
        "pipeline sync: seed",
        "pipeline sync: recipe.lr",
    ]


def test_output_to_a_full_disk_is_a_sentence_too(workspace):
    command = [sys.executable, "-m", "pipeline", "train", "--cfg", "job"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, cwd=workspace(), stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 74 and done.stderr.startswith("pipeline train: the disk is full")
    assert done.stderr.count("\n") == 1


def advised(printed: str) -> list[str]:
    """The first `pipeline ...` command of a sentence, as words."""
    return shlex.split(printed.split("`")[1])[1:]


def follow(arguments: list[str], capsys: pytest.CaptureFixture[str], most: int = 4) -> list[list[str]]:
    """Runs a command, and what it advises before it again, until it succeeds; the commands that were advised."""
    followed: list[list[str]] = []
    while cli.main(arguments) != 0:
        followed.append(advised(capsys.readouterr().err))
        assert len(followed) <= most and followed[-1] != arguments
        followed += follow(followed[-1], capsys, most - 1)
    return followed


@pytest.mark.parametrize(
    "words",
    [
        ["data.num_val=160", "data.name=more digits".replace(" ", "_")],
        ["data.num_val=170", "start.weights='a b'", "data.name=quoted"],
        ["--config", "my configuration.yaml"],
    ],
)
def test_hints_repeat_what_the_user_chose_and_lead_to_success(words, workspace, monkeypatch, capsys):
    root = workspace()
    monkeypatch.chdir(root)
    if words[0] == "--config":
        assert cli.main(["compose", "data.num_val=180"]) == 0
        (root / "composed.yaml").rename(root / words[1])
        for name in ("raw", "store"):
            (root / "data" / name / "digits").rename(root / "data" / name / "away")
    assert cli.main(["ensemble", *words]) == 2  # no store of these images
    first = advised(capsys.readouterr().err)
    assert first == ["preprocess", *words]
    assert follow(first, capsys)[-1] == ["fetch", *words]
    assert cli.main(["ensemble", *words]) == 2  # MLflow has no training of them
    assert advised(capsys.readouterr().err) == ["sweep", *words]


@pytest.mark.parametrize("verb", ["train", "sweep", "ensemble", "evaluate"])
def test_a_store_made_with_other_values_is_refused_with_the_command_that_makes_it_anew(
    verb, workspace, monkeypatch, capsys
):
    monkeypatch.chdir(workspace())
    assert cli.main([verb, "data.num_val=300"]) == 2
    printed = capsys.readouterr().err
    assert "data.num_val=300, but the store of digits was made with data.num_val=287" in printed
    assert advised(printed) == ["preprocess", "data.num_val=300"]


def test_a_batch_larger_than_the_training_split_is_refused_at_once_with_one_that_works(workspace, monkeypatch, capsys):
    root = workspace()
    monkeypatch.chdir(root)
    assert cli.main(["train", "recipe.batch_size=1000000", "trainer.compile=true"]) == 2
    advice = re.search(r"override: (recipe\.batch_size=\d+)\)", capsys.readouterr().err)
    assert advice and identify(composed(root, advice[1]), root / "data" / "store" / "digits", track=False).key
