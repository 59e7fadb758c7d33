from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path

import pytest
from web import Server

from pipeline.atomic import read_json
from pipeline.config import DataConfig
from pipeline.data import download, sources
from pipeline.data.download import Patience
from pipeline.data.places import ILSVRC, OFFICIAL, Official
from pipeline.data.sources import fetched

CONTENT = random.Random(1).randbytes(100_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
FILE = "cifar-10-python.tar.gz"
TARS = [OFFICIAL[key].file for key in ILSVRC]
IMAGENET = {  # each tar holds its own name
    key: Official(name, hashlib.md5(name.encode()).hexdigest()) for key, name in zip(ILSVRC, TARS, strict=True)
}


def config(source: str = "cifar10", **changes) -> DataConfig:
    side = {"image_size": 8, "num_test": 360} if source == "digits" else {}
    return DataConfig(**{"name": source, "source": source, **side, **changes})


def fetch(data: DataConfig, root: Path, url: str = "http://127.0.0.1:9", out: str = "raw") -> dict:
    """`sources.fetch` with an official address of the test's own, and without waiting between tries."""
    official = {"cifar10": Official(FILE, MD5, f"{url}/{FILE}"), **IMAGENET}
    return sources.fetch(data, root / out, root, official, Patience(wait_s=0.0))


@pytest.fixture
def server():
    with Server() as server:
        server.files[FILE] = CONTENT
        yield server
        server.shutdown()


def test_a_download_is_checked_recorded_and_not_made_again(server, tmp_path, monkeypatch):
    monkeypatch.setitem(OFFICIAL, "cifar10", Official(FILE, MD5))
    manifest, raw = fetch(config(), tmp_path, server.url), tmp_path / "raw"
    assert (raw / FILE).read_bytes() == CONTENT
    sha = hashlib.sha256(CONTENT).hexdigest()
    entry = {"path": FILE, "from": f"{server.url}/{FILE}", "bytes": len(CONTENT), "sha256": sha}
    facts = {"name": "cifar10", "source": "cifar10", "path": "", "layout": "cifar-pickles"}
    assert manifest == {**facts, "files": [entry]}
    assert manifest == read_json(raw / "manifest.json") == fetch(config(), tmp_path, server.url)
    assert sorted(path.name for path in raw.iterdir()) == [FILE, "manifest.json"] and len(server.asked) == 1
    assert fetched(config(), raw).paths == [raw / FILE]


def test_a_file_with_a_wrong_checksum_is_deleted_and_named(server, tmp_path):
    server.files[FILE] = b"<html>moved</html>"
    with pytest.raises(
        FileNotFoundError, match=rf"{FILE} \(its MD5 is \w+ instead of {MD5}; the download was deleted\)"
    ):
        fetch(config(), tmp_path, server.url)
    assert list((tmp_path / "raw").iterdir()) == []


def test_without_network_every_place_is_named_with_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        fetch(config(mirror="downloads"), tmp_path)
    sentence = str(caught.value)
    names = [FILE, *(f"cifar10{suffix}" for suffix in (".tar", ".tgz", ".tar.gz", ".zip", ""))]
    assert all(f"{tmp_path}/downloads/{name} (no such file)" in sentence for name in names)
    assert f"http://127.0.0.1:9/{FILE} (" in sentence and "data.mirror=/my/downloads" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("content", "layout", "used"), [(CONTENT, "cifar-pickles", FILE), (b"wrong", "class-folders", "cifar10.zip")]
)
def test_a_local_mirror_is_read_in_place_and_its_wrong_file_left_alone(content, layout, used, tmp_path):
    mirror = tmp_path / "downloads"
    mirror.mkdir()
    (mirror / FILE).write_bytes(content)
    (mirror / "cifar10.zip").write_bytes(b"class folders")
    manifest = fetch(config(mirror="downloads"), tmp_path)
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["manifest.json"]
    assert manifest["layout"] == layout and manifest["files"][0]["path"] == str(mirror / used)
    assert (mirror / FILE).read_bytes() == content


def test_a_web_mirror_is_asked_before_the_official_address(server, tmp_path):
    server.files["sets/cifar10.tgz"] = b"class folders"
    manifest = fetch(config(mirror=f"{server.url}/sets/"), tmp_path)
    assert manifest["layout"] == "class-folders" and manifest["files"][0]["path"] == "cifar10.tgz"
    assert [path for path, _ in server.asked] == [f"/sets/{name}" for name in (FILE, "cifar10.tar", "cifar10.tgz")]


def test_a_download_that_broke_off_goes_on_though_a_mirror_without_the_file_is_asked_first(
    server, tmp_path, monkeypatch
):
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    server.drops, server.drop_after = 1, 41_000
    data = config(mirror=f"{server.url}/sets")
    with monkeypatch.context() as patched:
        patched.setattr(download.time, "sleep", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch(data, tmp_path, server.url)
    fetch(data, tmp_path, server.url)
    assert server.asked[-1] == (f"/{FILE}", "bytes=41000-")
    assert sorted(path.name for path in (tmp_path / "raw").iterdir()) == [FILE, "manifest.json"]


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("my flowers.tgz", "my%20flowers.tgz"),
        ("sets/blüte.tgz", "sets/bl%C3%BCte.tgz"),
        ("70%25?.tar", "70%2525%3F.tar"),
        ("F.ZIP", "F.ZIP"),
    ],
)
def test_a_web_mirror_is_asked_for_any_name_and_the_file_keeps_it(path, asked, server, tmp_path):
    server.files[asked] = b"class folders"
    manifest = fetch(config("folder", name="flowers", path=path, mirror=server.url), tmp_path)
    name = path.rpartition("/")[2]
    assert manifest["files"][0]["path"] == name and (tmp_path / "raw" / name).read_bytes() == b"class folders"
    assert manifest["files"][0]["from"] == f"{server.url}/{asked}"


def test_parts_of_other_places_are_deleted_and_no_other_file_is(server, tmp_path):
    raw, archive = tmp_path / "raw", "images.part1.tgz"
    server.files[archive] = b"class folders"
    raw.mkdir()
    for name in (
        "other.tgz.part",
        "other.tgz.part.json",
        "lost.tgz.part.json",
        ".manifest.json.host.1.ab.part",
        "my.part",
    ):
        (raw / name).write_text("{}")
    fetch(config("folder", name="images", path=archive, mirror=server.url), tmp_path)
    left = sorted(path.name for path in raw.iterdir())
    assert left == [".manifest.json.host.1.ab.part", archive, "manifest.json", "my.part"]


def test_files_that_another_path_named_are_refused_until_they_are_fetched(tmp_path):
    first, second = (config("folder", name="s", path=f"{name}/s.tgz") for name in "ab")
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.tgz").write_text(name)
    fetch(first, tmp_path)
    raw = tmp_path / "raw"
    assert fetched(first, raw).paths == [tmp_path / "a/s.tgz"]
    with pytest.raises(
        ValueError, match=r"data\.path=a/s\.tgz named, but data\.path=b/s\.tgz; run `pipeline fetch`"
    ) as caught:
        fetched(second, raw)
    assert str(caught.value).endswith("(override: data.path=a/s.tgz)")
    fetch(second, tmp_path)
    assert fetched(second, raw).paths == [tmp_path / "b/s.tgz"]


def test_another_source_takes_the_old_download_away(server, tmp_path):
    fetch(config(), tmp_path, server.url)
    (tmp_path / "raw" / "mine.txt").write_text("not ours to delete")
    fetch(config("digits"), tmp_path)
    assert sorted(p.name for p in (tmp_path / "raw").iterdir()) == ["digits.npz", "manifest.json", "mine.txt"]


def test_digits_are_embedded_and_always_the_same_bytes(tmp_path):
    digits = config("digits")
    first, second = (fetch(digits, tmp_path, out=name) for name in ("a", "b"))
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
    data = config("folder", name="s", path=path.format(tmp_path), mirror=mirror)
    manifest = fetch(data, tmp_path)
    assert manifest["files"][0]["path"] == str(tmp_path / "sets" / "s.tgz")


def test_a_folder_is_recorded_by_names_and_sizes(tmp_path):
    data = config("folder", path=str(folder_set(tmp_path / "set", "train", "val")))
    entry = fetch(data, tmp_path)["files"][0]
    assert (entry["files"], entry["bytes"]) == (2, 10)
    (tmp_path / "set" / "notes.txt").write_text("beside the images, and of no account")
    assert fetched(data, tmp_path / "raw").paths == [tmp_path / "set"]
    (tmp_path / "set" / "train" / "cat" / "2.png").touch()
    with pytest.raises(ValueError, match=r"has changed since the data were fetched; run `pipeline fetch`"):
        fetched(data, tmp_path / "raw")


def test_of_a_folder_with_splits_other_folders_are_not_looked_at_and_without_splits_every_visible_one_is(tmp_path):
    split = folder_set(tmp_path / "split", "Train", "valid", "docs", ".git")
    os.mkfifo(split / "docs" / "pipe.png")
    assert fetch(config("folder", path="split"), tmp_path)["files"][0]["files"] == 2
    flat = folder_set(tmp_path / "flat", "birds", "fish", ".git")
    assert fetch(config("folder", path="flat"), tmp_path)["files"][0]["files"] == 2
    os.mkfifo(flat / "fish" / "pipe.png")
    with pytest.raises(ValueError, match=r"fish/pipe\.png in .* is a pipe"):
        fetch(config("folder", path="flat"), tmp_path)


@pytest.mark.parametrize(
    ("path", "error", "sentence"),
    [
        ("absent.tgz", FileNotFoundError, r"absent\.tgz \(no such file\).*override: data\.path="),
        ("empty", FileNotFoundError, r"empty \(an empty folder\)"),
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
        fetch(config("folder", path=path), tmp_path)
    assert not (tmp_path / "raw" / "manifest.json").exists()


@pytest.mark.parametrize("path", ["pipe.tar", "/dev/zero"])
def test_a_pipe_or_a_device_is_refused_unopened(path, tmp_path):
    os.mkfifo(tmp_path / "pipe.tar")
    with pytest.raises(ValueError, match=r"neither a folder nor a(n archive| plain file)"):
        fetch(config("folder", path=path), tmp_path)


@pytest.fixture
def imagenet(tmp_path):
    (tmp_path / "imagenet").mkdir()
    for name in TARS:
        (tmp_path / "imagenet" / name).write_bytes(name.encode())
    return config("imagenet", path="imagenet")


def test_imagenets_tars_stay_where_they_are_and_are_hashed_once(imagenet, tmp_path, monkeypatch):
    first = fetch(imagenet, tmp_path)
    assert first["layout"] == "ilsvrc-tars" and [Path(e["path"]).name for e in first["files"]] == TARS
    assert [p.name for p in (tmp_path / "raw").iterdir()] == ["manifest.json"]
    hashed = []
    monkeypatch.setattr(sources, "digests", lambda path, _: hashed.append(path.name) or ["0"])
    assert fetch(imagenet, tmp_path) == first and not hashed
    os.utime(tmp_path / "imagenet" / TARS[1], (1, 1))
    fetch(imagenet, tmp_path)
    assert hashed == [TARS[1]]


def test_imagenet_is_read_from_class_folders_too_and_without_its_devkit_the_error_says_what_is_needed(
    imagenet, tmp_path
):
    folder_set(tmp_path / "downloads" / "imagenet", "train", "val")
    manifest = fetch(config("imagenet", mirror="downloads"), tmp_path)
    assert manifest["layout"] == "class-folders"
    assert manifest["files"][0]["path"] == str(tmp_path / "downloads" / "imagenet")
    (tmp_path / "imagenet" / TARS[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"devkit_t12\.tar\.gz, or with train/<wnid>/.*data\.path=/my/imagenet"):
        fetch(imagenet, tmp_path)


def test_a_touched_file_is_hashed_again_and_a_changed_one_or_another_source_refused(imagenet, tmp_path, monkeypatch):
    monkeypatch.setitem(OFFICIAL, ILSVRC[2], IMAGENET[ILSVRC[2]])
    fetch(imagenet, tmp_path)
    tar = tmp_path / "imagenet" / TARS[0]
    os.utime(tar, (1, 1))
    assert fetched(imagenet, tmp_path / "raw").layout == "ilsvrc-tars"
    tar.write_bytes(tar.read_bytes()[::-1])
    with pytest.raises(ValueError, match="has changed"):
        fetched(imagenet, tmp_path / "raw")
    with pytest.raises(
        ValueError, match=r"MD5 of .*img_train\.tar is \w+ instead of the published \w+; download it again"
    ):
        fetch(imagenet, tmp_path)
    tar.unlink()
    with pytest.raises(FileNotFoundError, match="is gone"):
        fetched(imagenet, tmp_path / "raw")
    with pytest.raises(ValueError, match=r"holds imagenet, but data\.source=digits; run `pipeline fetch`"):
        fetched(digits := config("digits"), tmp_path / "raw")
    with pytest.raises(ValueError, match=rf"\(override: data\.name={digits.name}_digits\)"):
        fetched(digits, tmp_path / "raw")


def test_files_that_fit_their_manifest_are_refused_where_their_md5_is_not_the_published_one(imagenet, tmp_path):
    """As those of a remote where somebody replaced both."""
    (tmp_path / "downloads").mkdir()
    (tmp_path / "downloads" / FILE).write_bytes(CONTENT)
    for data, key in ((config(mirror="downloads"), "cifar10"), (imagenet, ILSVRC[2])):
        fetch(data, tmp_path)
        file, md5, _ = OFFICIAL[key]
        sentence = rf"MD5 of .*{file} is \w+ instead of the published {md5}; download it again and run `pipeline fetch`"
        with pytest.raises(ValueError, match=sentence):
            fetched(data, tmp_path / "raw")
