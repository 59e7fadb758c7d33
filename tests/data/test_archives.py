from __future__ import annotations

import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from photos import tar

from pipeline.config import LimitsConfig
from pipeline.data import archives
from pipeline.data.tars import Tar

FILES = {"train/cat/b.png": b"cat b", "train/cat/a.png": b"cat a" * 300, "test/dog/c.png": b"", "notes.txt": b"hello"}
KINDS = ("folder", "set.tar", "set.tgz", "set.tar.gz", "set.zip")


def make(kind: str, folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / kind
    if kind == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind.endswith(".zip"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        path.write_bytes(tar(files, mode="w:gz" if kind.endswith("gz") else "w"))
    return path


def open_container(path: Path, scratch: Path, visible=None, **limits):
    return archives.open_container(path, scratch, LimitsConfig(**limits), visible)


def contents(path: Path, scratch: Path, **limits) -> dict[str, bytes]:
    with open_container(path, scratch, **limits) as container:
        return {entry.name: entry.read() for entry in container.entries()}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_in_any_order_by_several_threads_and_leaves_nothing_on_disk(kind, tmp_path):
    files = FILES | {f"{n}.bin": bytes([n]) * (1000 + n) for n in range(100)}
    with open_container(make(kind, tmp_path, files), tmp_path / "scratch") as container, ThreadPoolExecutor(8) as pool:
        entries = list(container.entries())[::-1] * 5
        assert {entry.name for entry in entries} == set(files)
        assert list(pool.map(lambda entry: entry.read(), entries)) == [files[entry.name] for entry in entries]
        assert list((tmp_path / "scratch").glob("*")) == []


@pytest.mark.parametrize("kind", ["set.tar", "set.tgz"])
def test_tars_in_a_tar_are_read_in_place_while_the_outer_one_is_listed(kind, tmp_path):
    inner = {f"n{n}.tar": {f"n{n}/{name}": content for name, content in FILES.items()} for n in range(3)}
    path = make(kind, tmp_path, {name: tar(files) for name, files in inner.items()})
    with open_container(path, tmp_path) as container:
        assert isinstance(container, Tar)
        for outer in container.entries():
            assert {entry.name: entry.read() for entry in container.inside(outer)} == inner.pop(outer.name)
    assert not inner


def test_a_tar_in_a_tar_without_its_end_does_not_run_into_the_next_one(tmp_path):
    cut = tar(FILES).rstrip(b"\0")
    path = make("set.tar", tmp_path, {"n1.tar": cut + bytes(-len(cut) % 512), "n2.tar": tar(FILES)})
    with open_container(path, tmp_path) as container, pytest.raises(ValueError, match=r"set\.tar is damaged"):
        list(container.inside(next(iter(container.entries()))))


def test_a_folder_may_be_narrowed_and_its_links_are_followed(tmp_path):
    path = make("folder", tmp_path, FILES)
    (path / "train" / "bird").symlink_to(path / "test" / "dog")
    with open_container(path, tmp_path, lambda names: names[-1:]) as container:
        names = [entry.name for entry in container.entries()]
    assert names == ["train/bird/c.png", "train/cat/a.png", "train/cat/b.png"]


@pytest.mark.parametrize("folder", [".cache", "@eaDir", "lost+found", "System Volume Information"])
def test_hidden_folders_and_those_of_systems_are_not_looked_at(folder, tmp_path):
    path = make("folder", tmp_path, FILES)
    (path / "train" / "cat" / folder).mkdir()
    os.mkfifo(path / "train" / "cat" / folder / "c.png")  # which would be refused
    assert contents(path, tmp_path) == FILES


@pytest.mark.parametrize(("raw", "name"), [("Blüte".encode(), "Blüte"), ("Blüte".encode("latin-1"), "Blⁿte")])
def test_names_in_a_zip_without_its_flag_are_utf8_as_info_zip_writes_it_or_of_code_page_437(raw, name, tmp_path):
    in_place = "x" * len(raw)
    path = make("set.zip", tmp_path, {f"train/{in_place}/1.png": b"one", **FILES})
    path.write_bytes(path.read_bytes().replace(in_place.encode(), raw))
    assert contents(path, tmp_path) == {f"train/{name}/1.png": b"one", **FILES}


@pytest.mark.parametrize("name", ["../outside.png", "train/../../outside.png", "/etc/passwd", "..\\outside", "C:\\x"])
@pytest.mark.parametrize("kind", ["set.tar", "set.zip"])
def test_names_that_point_outside_are_refused(kind, name, tmp_path):
    with pytest.raises(ValueError, match="points outside"):
        contents(make(kind, tmp_path, {name: b"x"}), tmp_path)


@pytest.mark.parametrize("type_", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_a_tar_are_refused(type_, tmp_path):
    info = tarfile.TarInfo("train/cat/link.png")
    info.type, info.linkname = type_, "/etc/passwd"
    (tmp_path / "set.tar").write_bytes(tar(FILES, (info,)))
    with pytest.raises(ValueError, match=r"link\.png .* is a link or a device"):
        contents(tmp_path / "set.tar", tmp_path)


def test_links_in_a_zip_are_refused(tmp_path):
    info = zipfile.ZipInfo("train/cat/link.png")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ValueError, match="is a link"):
        contents(tmp_path / "set.zip", tmp_path)


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("share", [0.2, 0.6, 0.95])
def test_an_archive_cut_short_is_named(kind, share, tmp_path):
    files = {f"{n}.bin": bytes((n * k) % 251 for k in range(5000)) for n in range(1, 9)}
    path = make(kind, tmp_path, files)
    whole = path.read_bytes().rstrip(b"\0")
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(ValueError, match=rf"{path.name}.* (cut short|ends within)"):
        contents(path, tmp_path)


def test_a_broken_header_in_a_tar_is_not_taken_for_its_end(tmp_path):
    path = make("set.tar", tmp_path, {"a.png": b"a" * 100, "b.png": b"b" * 100})
    broken = bytearray(path.read_bytes())
    broken[1024 + 148 : 1024 + 156] = b"deadbeef"  # the second header's checksum
    path.write_bytes(broken)
    with pytest.raises(ValueError, match="damaged"):
        contents(path, tmp_path)


def test_damage_inside_a_zip_is_caught_by_its_checksum(tmp_path):
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.png", b"a" * 100)
    path.write_bytes(path.read_bytes().replace(b"a" * 100, b"a" * 50 + b"b" * 50))
    with pytest.raises(ValueError, match="damaged"):
        contents(path, tmp_path)


def test_what_is_no_archive_is_refused(tmp_path):
    (tmp_path / "set.rar").write_bytes(b"Rar!")
    with pytest.raises(ValueError, match=r"set\.rar is neither a folder nor a supported archive"):
        open_container(tmp_path / "set.rar", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"missing\.tar does not exist"):
        open_container(tmp_path / "missing.tar", tmp_path)
