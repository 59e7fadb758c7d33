"""The copy of a run's folder: always a whole one, of the newest attempt."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline.atomic import replacing
from pipeline.errors import DamagedError, PipelineError
from pipeline.storage.copy import STATE, Copy, is_stored, pulled
from pipeline.storage.objects import Objects
from pipeline.tracking.journal import NAME as JOURNAL


def folder_of(path: Path, **files: str) -> Path:
    path.mkdir(exist_ok=True)
    for name, text in files.items():
        (path / name.replace("_", ".")).write_text(text)
    return path


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file() and path.name != STATE}


def test_another_machine_gets_what_was_pushed_and_only_changes_are_sent(objects: Objects, tmp_path: Path) -> None:
    here = folder_of(tmp_path / "here", last_ckpt="step 1", journal_jsonl="a\n", best_safetensors="w")
    (here / "attempts").mkdir()
    folder_of(here, previous_ckpt="step 0", shipping="")
    copy = Copy(here, objects, 1)
    assert copy.push() and not copy.push() and is_stored(here, objects)
    before = objects.list()
    folder_of(here, last_ckpt="step 2", journal_jsonl="a\nb\n")
    assert not is_stored(here, objects)
    assert copy.push() and copy.stored == 4 == (here / JOURNAL).stat().st_size
    after = objects.list()
    assert sum("best" in name for name in before.keys() & after.keys()) == 1
    assert len(after) == 4, after  # nothing of before is left
    there = folder_of(tmp_path / "there", last_ckpt="of long ago", stray="x")
    assert pulled(there, objects)
    assert content(there) == {"last.ckpt": "step 2", JOURNAL: "a\nb\n", "best.safetensors": "w"}
    assert not pulled(there, objects)


def test_what_a_store_refuses_to_remove_is_removed_later_and_not_sent_again(
    objects: Objects, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Objects, name: str) -> None:
        raise PipelineError("the store does not answer")

    here = folder_of(tmp_path / "here", last_ckpt="step 1")
    copy = Copy(here, objects, 1)
    copy.push()
    folder_of(here, last_ckpt="step 2")
    with monkeypatch.context() as patched:
        patched.setattr(Objects, "remove", refused)
        with pytest.raises(PipelineError, match="does not answer"):
            copy.push()
        assert not copy.push() and len(objects.list()) == 3
    folder_of(here, last_ckpt="step 3")
    assert copy.push() and len(objects.list()) == 2
    there = tmp_path / "there"
    assert pulled(there, objects) and content(there) == {"last.ckpt": "step 3"}


def test_a_file_that_is_left_out_is_that_of_the_others_or_none(objects: Objects, tmp_path: Path) -> None:
    here = folder_of(tmp_path / "here", last_ckpt="step 1", run_json="running")
    Copy(here, objects, 1).push()
    there = tmp_path / "there"
    assert pulled(there, objects)
    folder_of(here, last_ckpt="step 2", run_json="finished")
    Copy(here, objects, 2).push()
    assert pulled(there, objects, without=("last.ckpt",))
    assert content(there) == {"run.json": "finished"}  # not beside the checkpoint of step 1
    folder_of(there, last_ckpt="step 2")
    pulled(there, objects, without=("last.ckpt",))
    assert content(there) == {"last.ckpt": "step 2", "run.json": "finished"}


def test_a_machine_that_goes_on_alone_keeps_what_it_has_more(objects: Objects, tmp_path: Path) -> None:
    here = folder_of(tmp_path / "here", last_ckpt="step 1", journal_jsonl="a\n")
    Copy(here, objects, 1).push()
    folder_of(here, last_ckpt="step 2")
    copy = Copy(here, objects, 2)  # the same command again, after a crash
    assert not copy.pull() and content(here)["last.ckpt"] == "step 2"
    there = tmp_path / "there"
    other = Copy(there, objects, 3)
    assert other.pull()
    folder_of(there, last_ckpt="step 1 elsewhere")
    other.push()
    assert Copy(here, objects, 4).pull()  # somebody else has gone on
    assert content(here)["last.ckpt"] == "step 1 elsewhere"


def test_what_a_lost_machine_writes_late_does_not_count(objects: Objects, tmp_path: Path) -> None:
    here = folder_of(tmp_path / "here", last_ckpt="step 1")
    zombie = Copy(here, objects, 1)
    zombie.push()
    there = tmp_path / "there"
    newer = Copy(there, objects, 2)
    newer.pull()
    folder_of(there, last_ckpt="step 3")
    folder_of(here, last_ckpt="step 2")
    zombie.push()
    newer.push()
    zombie_again = folder_of(here, last_ckpt="step 9")
    zombie.push()
    third = tmp_path / "third"
    assert Copy(third, objects, 3).pull() and content(third) == {"last.ckpt": "step 3"}
    assert content(zombie_again)["last.ckpt"] == "step 9"  # its own disk is its own


def test_a_changed_object_is_named(objects: Objects, tmp_path: Path) -> None:
    Copy(folder_of(tmp_path / "here", last_ckpt="step 1"), objects, 1).push()
    (name,) = [name for name in objects.list() if name.endswith("last.ckpt")]
    objects.write(name, b"step 7")
    with pytest.raises(DamagedError, match=r"last.ckpt has changed since it was written"):
        pulled(tmp_path / "there", objects)


def replace(folder: Path, **files: str) -> None:
    for name, text in files.items():
        with replacing(folder / name.replace("_", ".")) as part:
            part.write_text(text)


def test_the_list_is_of_one_moment_though_files_change_during_an_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    objects, here, upload = Objects(f"file://{tmp_path}/store"), tmp_path / "here", Objects.upload
    replace(here, best_safetensors="1", last_ckpt="1", run_json="1")
    copy = Copy(here, objects, 1)
    copy.push()
    replace(here, last_ckpt="2", run_json="2")

    def slow(*arguments: object) -> None:
        upload(*arguments)
        replace(here, best_safetensors="3", last_ckpt="3", run_json="3")

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "upload", slow)
        copy.push()
    for at, expected in enumerate(("122", "333")):
        assert pulled(there := tmp_path / f"there-{at}", objects)
        assert "".join(text for _, text in sorted(content(there).items())) == expected
        copy.push()


def test_files_keep_the_time_at_which_they_were_written(tmp_path: Path) -> None:
    objects, here = Objects(f"file://{tmp_path}/store"), folder_of(tmp_path / "here", trials_json="{}", last_ckpt="1")
    os.utime(here / "trials.json", (1e9, 1e9))
    Copy(here, objects, 1).push()
    assert pulled(tmp_path / "there", objects)
    assert (tmp_path / "there" / "trials.json").stat().st_mtime == pytest.approx(1e9, abs=60)


def test_a_file_of_another_user_keeps_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects, here = Objects(f"file://{tmp_path}/store"), folder_of(tmp_path / "here", trials_json="{}")
    Copy(here, objects, 1).push()
    there = folder_of(tmp_path / "there", trials_json="{}")

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.utime", refused)
    assert pulled(there, objects) and content(there) == content(here)


def test_a_folder_that_is_gone_is_not_put_down_to_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects = Objects(f"file://{tmp_path}/store")
    Copy(folder_of(tmp_path / "here", last_ckpt="1"), objects, 1).push()
    download = Objects.download
    monkeypatch.setattr(Objects, "download", lambda self, name, path: download(self, name, path.parent / "no" / "x"))
    with pytest.raises(FileNotFoundError, match="no/x"):
        pulled(tmp_path / "there", objects)
