"""A store of objects: whole objects or none, and one sentence where it does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest
from pyarrow.fs import LocalFileSystem

from benchmarks.servers import s3_environment
from pipeline.border import MACHINE, system_error
from pipeline.config import ClusterConfig
from pipeline.errors import PipelineError
from pipeline.storage.objects import PATIENCE_S, MissingObject, Objects


def test_objects_are_written_read_listed_and_removed(objects: Objects, tmp_path: Path) -> None:
    assert objects.list() == {}
    objects.write("a/b.json", b"{}")
    objects.write("a/b.json", b"[1]")
    (tmp_path / "grows").write_bytes(b"12345")
    with (tmp_path / "grows").open("rb") as file:
        objects.upload(file, 3, "a/c/d")
    assert objects.read("a/b.json") == b"[1]" and objects.read("a/c/d") == b"123"
    assert {name: size for name, (size, _) in objects.list().items()} == {"a/b.json": 3, "a/c/d": 3}
    assert set(objects.below("a").list("c")) == {"d"}
    objects.download("a/c/d", tmp_path / "d")
    assert (tmp_path / "d").read_bytes() == b"123"
    for _ in range(2):
        objects.remove("a/b.json")
    with pytest.raises(MissingObject):
        objects.read("a/b.json")


def test_a_full_disk_of_this_machine_is_told_at_once_as_one(tmp_path: Path) -> None:
    objects, begun = Objects(f"file://{tmp_path}/store"), time.monotonic()
    objects.write("a", b"1")
    with pytest.raises(OSError, match="No space left on device") as told:
        objects.download("a", Path("/dev/full"))
    assert time.monotonic() - begun < PATIENCE_S
    refusal = system_error(told.value)
    assert refusal is not None and "the disk is full" in refusal[0] and refusal[1] == MACHINE


def test_an_address_whose_region_the_cloud_does_not_tell_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = [OSError("When resolving region for bucket 'b': AWS Error NETWORK_CONNECTION"), tmp_path / "store"]

    def from_uri(uri: str) -> tuple[LocalFileSystem, str]:
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if isinstance(answer, OSError):
            raise answer
        return LocalFileSystem(), str(answer)

    monkeypatch.setattr("pyarrow.fs.FileSystem", SimpleNamespace(from_uri=from_uri))
    assert Objects("s3://b/folder").list() == {}
    answers[:] = [OSError("When resolving region for bucket 'b': no such bucket")]
    with pytest.raises(PipelineError, match=r"s3://b/folder does not answer .*; start it, or correct cluster.storage"):
        Objects("s3://b/folder", patience_s=0.0).list()


class Erring(BaseHTTPRequestHandler):
    """Answers 503 and 500 in turn, then as a store without objects."""

    errors = 0
    asked = 0

    def do_GET(self) -> None:
        cls = type(self)
        cls.asked += 1
        if cls.errors:
            cls.errors -= 1
            self.send_response(503 if cls.errors % 2 else 500)
            body = b""
        else:
            self.send_response(200)
            body = b'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><KeyCount>0</KeyCount></ListBucketResult>'
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def erring(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Erring]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Erring)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name, value in s3_environment(f"http://127.0.0.1:{server.server_port}").items():
        monkeypatch.setenv(name, value)
    yield Erring
    server.shutdown()


def test_a_store_that_errs_is_asked_again(erring: type[Erring]) -> None:
    erring.errors, erring.asked = 8, 0
    assert Objects("s3://pipeline/runs").list() == {}
    assert erring.asked > 8


def test_a_store_that_does_not_answer_is_one_sentence(closed_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3_environment(f"http://127.0.0.1:{closed_port}").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        PipelineError, match=r"s3://pipeline/runs does not answer \(.*start it, or correct cluster.storage"
    ) as error:
        Objects("s3://pipeline/runs", patience_s=0).list()
    assert "\n" not in str(error.value) and "test-secret" not in str(error.value)


def test_an_address_that_cannot_be_opened_is_one_sentence() -> None:
    with pytest.raises(PipelineError, match="give an address such as s3://bucket/folder"):
        Objects("nosuch://pipeline").list()


@pytest.mark.parametrize("storage", ["/data/runs", "s3://"])
def test_a_folder_is_no_address(storage: str) -> None:
    with pytest.raises(PipelineError, match=f"cluster.storage='{storage}'; give a URL"):
        ClusterConfig(storage=storage).check()
