from __future__ import annotations

import errno
import hashlib
import random
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from web import Server

from pipeline.data import download as module
from pipeline.data.download import UnavailableError, digest
from pipeline.errors import PipelineError
from reliability import http
from reliability.server import Server as RawServer
from reliability.server import head, served

CONTENT = random.Random(1).randbytes(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()
download = partial(module.download, limit=1e9, patience=http.IMPATIENT)


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


def parts(target: Path) -> list[bytes]:
    return [path.read_bytes() for path in target.parent.glob("*.part")]


@with_and_without_ranges
def test_a_broken_connection_is_resumed(server, target):
    server.drops, server.drop_after = 2, 1_000_000
    download(f"{server.url}/set.tgz", target, md5=MD5)
    assert target.read_bytes() == CONTENT and not parts(target)
    assert [wanted for _, wanted in server.asked][:2] == [None, "bytes=1000000-"]


def test_two_downloads_of_one_file_share_it(server, target, capsys):
    server.drops, server.drop_after = 1, 1_200_000
    with ThreadPoolExecutor() as pool:
        both = [pool.submit(download, f"{server.url}/set.tgz", target, md5=MD5) for _ in range(2)]
    assert [each.result() for each in both] == [None, None] and target.read_bytes() == CONTENT
    assert len(server.asked) == 2 and "this one waits for it" in capsys.readouterr().err


@with_and_without_ranges
def test_an_interrupted_download_goes_on_the_next_time(server, target, monkeypatch):
    server.drops, server.drop_after = 1, 1_200_000
    with monkeypatch.context() as patched:
        patched.setattr(module.time, "sleep", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(f"{server.url}/set.tgz", target, md5=MD5)
    assert not target.exists() and parts(target) == [CONTENT[:1_200_000]]
    download(f"{server.url}/set.tgz", target, md5=MD5)
    assert target.read_bytes() == CONTENT
    assert server.asked[-1] == ("/set.tgz", "bytes=1200000-")


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt


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
    assert len(server.asked) == 1 and not parts(target)
    with pytest.raises(UnavailableError, match=r"(?i)refused"):
        download("http://127.0.0.1:9/set.tgz", target)


def test_a_wrong_checksum_deletes_what_came(server, target):
    with pytest.raises(UnavailableError, match=rf"MD5 is {MD5} instead of 0123; the download was deleted"):
        download(f"{server.url}/set.tgz", target, md5="0123")
    assert not target.exists() and not parts(target)


@pytest.mark.parametrize("long", [10, 1 << 29])
def test_a_digest_is_that_of_the_bytes_with_progress_or_without(long, target, capsys):
    target.write_bytes(CONTENT)
    assert digest(target, "md5", long) == MD5
    assert ("md5 of set.tgz" in capsys.readouterr().err) == (long == 10)


MISBEHAVIOURS = [  # the slower ones are left to `make reliability`
    *("breaks off once", "breaks off again and again", "the file changes", "the file changes, If-Range is ignored"),
    *(
        "the file changes, no ETag",
        "another range than asked for",
        "a range of another length",
        "416 of another length",
    ),
    *("a part of another URL", "a part without its facts", "a part with broken facts", "busy, with a date", "refused"),
    *(
        "busy for eleven days",
        "a page to log in",
        "a redirection",
        "a redirection to a file",
        "no status",
        "two lengths",
    ),
    *("headers without end", "100 without end", "a reset", "chunks", "chunks without their end", "a chunk of 1 EB"),
    *("an encoding", "gzip named as an encoding", "a body without end", "a length of 1 TB", "a body byte by byte"),
]


@pytest.mark.parametrize("name", MISBEHAVIOURS)
def test_a_server_that_misbehaves_gives_the_right_bytes_or_one_sentence(name, tmp_path):
    content = random.Random(2).randbytes(50_000)
    outcome = http.tried_case(name, http.cases(random.Random(0), content)[name], content, tmp_path)
    assert outcome.ok, outcome.detail


def test_a_login_of_the_users_netrc_is_sent_and_a_broken_file_is_not_repeated(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password sesame\n")
    (tmp_path / ".netrc").chmod(0o600)
    with RawServer(lambda request: iter([served(request, CONTENT)])) as private:
        download(private.url + "/set.tgz", tmp_path / "set.tgz")
        assert private.asked[0].headers["authorization"] == "Basic " + b64encode(b"me:sesame").decode()
        (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me pass sesame\n")
        with pytest.raises(PipelineError, match="netrc cannot be used") as refused:
            download(private.url + "/set.tgz", tmp_path / "again.tgz")
    assert "sesame" not in str(refused.value) and refused.value.__suppress_context__


def test_a_password_in_the_url_goes_to_its_server_alone_and_into_no_file(tmp_path):
    elsewhere = RawServer(lambda request: iter([served(request, CONTENT)]))
    moved = RawServer(lambda _: iter([head("302 Found", Location=f"{elsewhere.url}/set.tgz")]))
    with elsewhere, moved:
        download(moved.url.replace("//", "//me:s%C3%A9same@") + "/set.tgz", tmp_path / "set.tgz")
    assert moved.asked[0].headers["authorization"] == "Basic " + b64encode("me:s\u00e9same".encode()).decode()
    assert "authorization" not in elsewhere.asked[0].headers
    cut = RawServer(lambda request: iter([head("403 No") if request.number else served(request, CONTENT)[:9000]]))
    with cut, pytest.raises(UnavailableError, match=r"^HTTP 403 No$"):
        download(cut.url.replace("//", "//me:sesame@") + "/set.tgz", tmp_path / "cut.tgz", md5=MD5)
    assert all(b"sesame" not in path.read_bytes() for path in tmp_path.iterdir())


def test_our_own_full_disk_is_no_fault_of_the_server(server, target, monkeypatch):
    monkeypatch.setattr(module._Attempt, "_require_below_limit", _full)
    with pytest.raises(OSError, match="No space"):
        download(f"{server.url}/set.tgz", target)


def _full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")
