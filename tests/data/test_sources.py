from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.atomic import read_json
from pipeline.config import DataConfig
from pipeline.data import sources
from pipeline.data.sources import ILSVRC, OFFICIAL, fetch, fetched

CONTENT = os.urandom(100_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
FILE = "cifar-10-python.tar.gz"


def config(**changes) -> DataConfig:
    values = {"name": "cifar10", "source": "cifar10", "path": "", "mirror": "", "format": "arrays"}
    values["image_size"] = 8 if changes.get("source") == "digits" else 32
    values |= {"num_val": 2, "num_train": 0, "split_seed": 0, "split": "holdout", "skip_corrupt": False, "workers": 1}
    return DataConfig(**(values | changes))


class Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path):
    """Serves the files in `folder`, and keeps what was asked for in `asked`."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        server.folder, server.asked, server.url = folder, [], f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def _official(monkeypatch, tmp_path):
    """No test reaches the real address, waits between tries or has the real file."""
    monkeypatch.setattr("pipeline.data.download.WAIT_S", 0.0)
    table = {"cifar10": sources.Official(FILE, MD5, "http://127.0.0.1:9/" + FILE)}
    monkeypatch.setattr(sources, "OFFICIAL", table)


def official_at(server, monkeypatch) -> None:
    monkeypatch.setitem(sources.OFFICIAL, "cifar10", sources.Official(FILE, MD5, f"{server.url}/{FILE}"))
    (server.folder / FILE).write_bytes(CONTENT)


def test_the_official_table_is_torchvisions():
    """Read from its source text: importing torch takes longer than all other tests here."""
    folder = Path(importlib.util.find_spec("torchvision").origin).parent / "datasets"
    for name in ("cifar10", "cifar100"):
        body = next(
            n.body for n in ast.parse((folder / "cifar.py").read_text()).body if getattr(n, "name", "") == name.upper()
        )
        facts = {n.targets[0].id: ast.literal_eval(n.value) for n in body if isinstance(n, ast.Assign)}
        assert OFFICIAL[name] == (facts["filename"], facts["tgz_md5"], facts["url"])
    text = (folder / "imagenet.py").read_text()
    assert all(f'"{name}"' in text for name in ILSVRC)


def test_a_download_is_checked_and_recorded(server, monkeypatch, tmp_path):
    official_at(server, monkeypatch)
    manifest = fetch(config(), tmp_path / "raw", tmp_path)
    assert (tmp_path / "raw" / FILE).read_bytes() == CONTENT
    assert manifest == read_json(tmp_path / "raw" / "manifest.json")
    sha = hashlib.sha256(CONTENT).hexdigest()
    entry = {"path": FILE, "from": f"{server.url}/{FILE}", "bytes": len(CONTENT), "sha256": sha}
    assert manifest == {"name": "cifar10", "source": "cifar10", "layout": "cifar-pickles", "files": [entry]}
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == [FILE, "manifest.json"]
    assert fetched(config(), tmp_path / "raw").paths == [tmp_path / "raw" / FILE]


def test_a_file_with_a_wrong_checksum_is_deleted_and_named(server, monkeypatch, tmp_path):
    official_at(server, monkeypatch)
    (server.folder / FILE).write_bytes(b"<html>moved</html>")
    with pytest.raises(FileNotFoundError, match=rf"{FILE} \(its MD5 is \w+ instead of {MD5}; what came was deleted\)"):
        fetch(config(), tmp_path / "raw", tmp_path)
    assert list((tmp_path / "raw").iterdir()) == []


def test_without_network_every_place_is_named_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        fetch(config(mirror="downloads"), tmp_path / "raw", tmp_path)
    sentence = str(caught.value)
    names = [FILE, *(f"cifar10{suffix}" for suffix in (".tar", ".tgz", ".tar.gz", ".zip", ""))]
    assert all(f"{tmp_path}/downloads/{name} (no such file)" in sentence for name in names)
    assert f"http://127.0.0.1:9/{FILE} (" in sentence and "data.mirror=/my/downloads" in sentence
    assert "\n" not in sentence


def test_what_was_downloaded_is_not_downloaded_again(server, monkeypatch, tmp_path):
    official_at(server, monkeypatch)
    first = fetch(config(), tmp_path / "raw", tmp_path)
    assert fetch(config(), tmp_path / "raw", tmp_path) == first
    assert len(server.asked) == 1


def test_a_local_mirror_is_read_in_place(tmp_path):
    mirror = tmp_path / "downloads"
    mirror.mkdir()
    (mirror / FILE).write_bytes(CONTENT)
    manifest = fetch(config(mirror="downloads"), tmp_path / "raw", tmp_path)
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["manifest.json"]
    assert manifest["layout"] == "cifar-pickles" and manifest["files"][0]["path"] == str(mirror / FILE)


def test_a_mirrors_wrong_file_is_left_alone_and_the_next_place_used(tmp_path):
    (tmp_path / FILE).write_bytes(b"wrong")
    (tmp_path / "cifar10.zip").write_bytes(b"class folders")
    manifest = fetch(config(mirror=str(tmp_path)), tmp_path / "raw", tmp_path)
    assert manifest["layout"] == "class-folders" and manifest["files"][0]["path"] == str(tmp_path / "cifar10.zip")
    assert (tmp_path / FILE).read_bytes() == b"wrong"


def test_a_web_mirror_is_asked_before_the_official_address(server, tmp_path):
    (server.folder / "sets").mkdir()
    (server.folder / "sets" / "cifar10.tgz").write_bytes(b"class folders")
    manifest = fetch(config(mirror=f"{server.url}/sets/"), tmp_path / "raw", tmp_path)
    assert manifest["layout"] == "class-folders" and manifest["files"][0]["path"] == "cifar10.tgz"
    assert server.asked == [f"/sets/{name}" for name in (FILE, "cifar10.tar", "cifar10.tgz")]


def test_another_source_takes_the_old_download_away(server, monkeypatch, tmp_path):
    official_at(server, monkeypatch)
    fetch(config(), tmp_path / "raw", tmp_path)
    (tmp_path / "raw" / "mine.txt").write_text("not ours to delete")
    fetch(config(source="digits"), tmp_path / "raw", tmp_path)
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == ["digits.npz", "manifest.json", "mine.txt"]


def test_digits_are_embedded_and_always_the_same_bytes(tmp_path):
    digits = config(name="digits", source="digits")
    first, second = (fetch(digits, tmp_path / name, tmp_path) for name in ("a", "b"))
    assert first == second and first["layout"] == "digits"
    assert (tmp_path / "a" / "digits.npz").read_bytes() == (tmp_path / "b" / "digits.npz").read_bytes()


def folder_set(path: Path, *folders: str) -> Path:
    for folder in folders:
        (path / folder / "cat").mkdir(parents=True)
        (path / folder / "cat" / "1.png").write_bytes(b"12345")
    return path


@pytest.mark.parametrize(
    ("path", "mirror"), [("{0}/sets/s.tgz", ""), ("sets/s.tgz", ""), ("s.tgz", "sets"), ("", "sets")]
)
def test_an_archive_is_named_absolutely_relatively_or_in_the_mirror(path, mirror, tmp_path):
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "s.tgz").write_bytes(b"x")
    data = config(name="s", source="folder", path=path.format(tmp_path), mirror=mirror)
    manifest = fetch(data, tmp_path / "raw", tmp_path)
    assert manifest["files"][0]["path"] == str(tmp_path / "sets" / "s.tgz")


def test_a_folder_is_recorded_by_names_and_sizes(tmp_path):
    data = config(source="folder", path=str(folder_set(tmp_path / "set", "train", "val")))
    entry = fetch(data, tmp_path / "raw", tmp_path)["files"][0]
    assert (entry["files"], entry["bytes"]) == (2, 10)
    (tmp_path / "set" / "notes.txt").write_text("beside the images, and of no account")
    assert fetched(data, tmp_path / "raw").paths == [tmp_path / "set"]
    (tmp_path / "set" / "train" / "cat" / "2.png").touch()
    with pytest.raises(ValueError, match=r"has changed since the data were fetched; run `dvc repro -f fetch`"):
        fetched(data, tmp_path / "raw")


@pytest.mark.parametrize(
    ("path", "error", "sentence"),
    [
        ("absent.tgz", FileNotFoundError, r"absent\.tgz \(no such file\).*override: data\.path="),
        ("empty", FileNotFoundError, r"empty \(no train/ in it\)"),
        ("notes.txt", ValueError, r"data\.path=notes\.txt is neither a folder nor an archive \(\.tar, "),
        ("raw/own.tgz", ValueError, "which DVC may empty; move your files elsewhere"),
    ],
)
def test_a_path_that_cannot_be_a_data_set_is_refused(path, error, sentence, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "raw").mkdir()
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / "raw" / "own.tgz").write_bytes(b"")
    with pytest.raises(error, match=sentence):
        fetch(config(source="folder", path=path), tmp_path / "raw", tmp_path)
    assert not (tmp_path / "raw" / "manifest.json").exists()


@pytest.fixture
def imagenet(tmp_path):
    (tmp_path / "imagenet").mkdir()
    for name in ILSVRC:
        (tmp_path / "imagenet" / name).write_bytes(name.encode())
    return config(name="imagenet", source="imagenet", path="imagenet")


def test_imagenets_tars_stay_where_they_are_and_are_hashed_once(imagenet, tmp_path, monkeypatch):
    first = fetch(imagenet, tmp_path / "raw", tmp_path)
    assert first["layout"] == "ilsvrc-tars" and [Path(e["path"]).name for e in first["files"]] == list(ILSVRC)
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["manifest.json"]
    hashed = []
    monkeypatch.setattr(sources, "digest", lambda path, algorithm: hashed.append(path.name) or "0")
    assert fetch(imagenet, tmp_path / "raw", tmp_path) == first and not hashed
    os.utime(tmp_path / "imagenet" / ILSVRC[1], (1, 1))
    fetch(imagenet, tmp_path / "raw", tmp_path)
    assert hashed == [ILSVRC[1]]


def test_imagenet_as_class_folders(tmp_path):
    folder_set(tmp_path / "downloads" / "imagenet", "train", "val")
    data = config(name="imagenet", source="imagenet", mirror="downloads")
    manifest = fetch(data, tmp_path / "raw", tmp_path)
    assert manifest["layout"] == "class-folders"
    assert manifest["files"][0]["path"] == str(tmp_path / "downloads" / "imagenet")


def test_imagenet_without_its_devkit_says_what_is_needed(imagenet, tmp_path):
    (tmp_path / "imagenet" / ILSVRC[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"devkit_t12\.tar\.gz, or with train/<wnid>/.*data\.path=/my/imagenet"):
        fetch(imagenet, tmp_path / "raw", tmp_path)


def test_a_touched_file_is_hashed_again_and_a_changed_one_refused(imagenet, tmp_path):
    fetch(imagenet, tmp_path / "raw", tmp_path)
    tar = tmp_path / "imagenet" / ILSVRC[0]
    os.utime(tar, (1, 1))
    assert fetched(imagenet, tmp_path / "raw").layout == "ilsvrc-tars"
    tar.write_bytes(tar.read_bytes()[::-1])
    with pytest.raises(ValueError, match="has changed"):
        fetched(imagenet, tmp_path / "raw")
    tar.unlink()
    with pytest.raises(FileNotFoundError, match="is gone"):
        fetched(imagenet, tmp_path / "raw")


def test_another_source_than_was_fetched_is_refused(imagenet, tmp_path):
    fetch(imagenet, tmp_path / "raw", tmp_path)
    with pytest.raises(ValueError, match=r"holds imagenet, but data\.source=digits; run `dvc repro fetch`"):
        fetched(config(source="digits"), tmp_path / "raw")
