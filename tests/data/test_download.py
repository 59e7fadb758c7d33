from __future__ import annotations

import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pipeline.data.download import UnavailableError, digest, download

CONTENT = os.urandom(3_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `files`; `drop_after` closes each of the next `drops` answers after so many bytes."""

    def __init__(self, ranges: bool = True) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"set.tgz": CONTENT}
        self.ranges, self.drops, self.drop_after, self.fails = ranges, 0, 0, 0
        self.asked: list[tuple[str, str | None]] = []
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.path, wanted))
        content = server.files.get(self.path.lstrip("/"))
        if content is None or server.fails:
            server.fails -= content is not None
            return self.send_error(404 if content is None else 503)
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            return self.end_headers()
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        body = content[start:]
        if server.drops:
            server.drops -= 1
            body = body[: server.drop_after]
        self.wfile.write(body)
        return None

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=[True, False], ids=["ranges", "no-ranges"])
def any_server(request):
    with Server(ranges=request.param) as server:
        yield server
        server.shutdown()


@pytest.fixture
def server():
    with Server() as server:
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr("pipeline.data.download.WAIT_S", 0.0)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "set.tgz"


def part_of(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def test_a_broken_connection_is_resumed(any_server, target):
    any_server.drops, any_server.drop_after = 2, 1_000_000
    download(f"{any_server.url}/set.tgz", target, MD5)
    assert target.read_bytes() == CONTENT and not part_of(target).exists()
    assert [wanted for _, wanted in any_server.asked][:2] == [None, "bytes=1000000-"]


def test_an_interrupted_download_goes_on_the_next_time(any_server, target, monkeypatch):
    any_server.drops, any_server.drop_after = 1, 1_200_000
    with monkeypatch.context() as patched:
        patched.setattr("pipeline.data.download.time.sleep", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            download(f"{any_server.url}/set.tgz", target, MD5)
    assert not target.exists() and part_of(target).read_bytes() == CONTENT[:1_200_000]
    download(f"{any_server.url}/set.tgz", target, MD5)
    assert target.read_bytes() == CONTENT
    assert any_server.asked[-1] == ("/set.tgz", "bytes=1200000-")


def _interrupt(_: float) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("kept", [len(CONTENT), len(CONTENT) + 5], ids=["whole", "longer-than-the-file"])
def test_a_part_that_needs_no_more_bytes_is_used_or_begun_anew(kept, server, target):
    part_of(target).write_bytes((CONTENT + b"extra")[:kept])
    download(f"{server.url}/set.tgz", target, MD5)
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_that_always_breaks_off_is_given_up(target):
    with Server(ranges=False) as server:
        server.drops, server.drop_after = 100, 1_000_000
        with pytest.raises(UnavailableError, match="closed after 1000000 of 3000000 bytes"):
            download(f"{server.url}/set.tgz", target)
        assert len(server.asked) == 4  # one that brought something new, three that did not
        server.shutdown()


def test_a_busy_server_is_asked_again_but_not_for_ever(server, target):
    server.fails = 2
    download(f"{server.url}/set.tgz", target)
    server.fails = 3
    with pytest.raises(UnavailableError, match="HTTP 503"):
        download(f"{server.url}/set.tgz", target)


def test_a_file_that_is_not_there_is_asked_for_once(server, target):
    with pytest.raises(UnavailableError, match="HTTP 404"):
        download(f"{server.url}/other.tgz", target)
    assert len(server.asked) == 1 and not part_of(target).exists()


def test_a_host_that_does_not_answer_is_named_with_the_reason(target):
    with pytest.raises(UnavailableError, match=r"(?i)refused"):
        download("http://127.0.0.1:9/set.tgz", target)


def test_a_wrong_checksum_deletes_what_came(server, target):
    with pytest.raises(UnavailableError, match=rf"MD5 is {MD5} instead of 0123; what came was deleted"):
        download(f"{server.url}/set.tgz", target, "0123")
    assert not target.exists() and not part_of(target).exists()


def test_the_digest_of_a_long_file_is_that_of_its_bytes(target, monkeypatch):
    target.write_bytes(CONTENT)
    assert digest(target, "md5") == MD5
    monkeypatch.setattr("pipeline.data.download.LONG", 10)
    assert digest(target, "md5") == MD5
