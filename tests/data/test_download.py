from __future__ import annotations

import hashlib
import os
from functools import partial
from pathlib import Path

import pytest
from web import Server

from pipeline.data import download as module
from pipeline.data.download import UnavailableError, digest

CONTENT = os.urandom(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
download = partial(module.download, wait_s=0.0)


@pytest.fixture
def server(request):
    with Server(ranges=getattr(request, "param", True)) as server:
        server.files["set.tgz"] = CONTENT
        yield server
        server.shutdown()


with_and_without_ranges = pytest.mark.parametrize("server", [True, False], ids=["ranges", "no-ranges"], indirect=True)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "set.tgz"


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


@with_and_without_ranges
def test_a_broken_connection_is_resumed(server, target):
    server.drops, server.drop_after = 2, 1_000_000
    download(f"{server.url}/set.tgz", target, MD5)
    assert target.read_bytes() == CONTENT and not part_of(target).exists()
    assert [wanted for _, wanted in server.asked][:2] == [None, "bytes=1000000-"]


@with_and_without_ranges
def test_an_interrupted_download_goes_on_the_next_time(server, target, monkeypatch):
    server.drops, server.drop_after = 1, 1_200_000
    with monkeypatch.context() as patched:
        patched.setattr(module.time, "sleep", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(f"{server.url}/set.tgz", target, MD5)
    assert not target.exists() and part_of(target).read_bytes() == CONTENT[:1_200_000]
    download(f"{server.url}/set.tgz", target, MD5)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/set.tgz", "bytes=1200000-")


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kept", [len(CONTENT), len(CONTENT) + 5], ids=["whole", "longer-than-the-file"])
def test_a_part_that_needs_no_more_bytes_is_used_or_begun_anew(kept, server, target):
    part_of(target).write_bytes((CONTENT + b"extra")[:kept])
    download(f"{server.url}/set.tgz", target, MD5)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("server", [False], indirect=True)
def test_a_server_without_ranges_that_always_breaks_off_is_given_up(server, target):
    server.drops, server.drop_after = 100, 1_000_000
    with pytest.raises(UnavailableError, match="closed after 1000000 of 3000000 bytes"):
        download(f"{server.url}/set.tgz", target)
    assert len(server.asked) == 4  # one that brought something new, three that did not


def test_a_busy_server_is_asked_again_but_not_for_ever(server, target):
    server.fails = 2
    download(f"{server.url}/set.tgz", target)
    server.fails = 3
    with pytest.raises(UnavailableError, match="HTTP 503"):
        download(f"{server.url}/set.tgz", target)


def test_a_missing_file_is_asked_for_once_and_a_dead_host_is_named_with_the_reason(server, target):
    with pytest.raises(UnavailableError, match="HTTP 404"):
        download(f"{server.url}/other.tgz", target)
    assert len(server.asked) == 1 and not part_of(target).exists()
    with pytest.raises(UnavailableError, match=r"(?i)refused"):
        download("http://127.0.0.1:9/set.tgz", target)


def test_a_wrong_checksum_deletes_what_came(server, target):
    with pytest.raises(UnavailableError, match=rf"MD5 is {MD5} instead of 0123; the download was deleted"):
        download(f"{server.url}/set.tgz", target, "0123")
    assert not target.exists() and not part_of(target).exists()


@pytest.mark.parametrize("long", [10, 1 << 29])
def test_a_digest_is_that_of_the_bytes_with_progress_or_without(long, target, capsys):
    target.write_bytes(CONTENT)
    assert digest(target, "md5", long) == MD5
    assert ("md5 of set.tgz" in capsys.readouterr().err) == (long == 10)
