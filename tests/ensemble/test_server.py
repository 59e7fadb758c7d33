"""The server of a registered ensemble, over real connections."""

from __future__ import annotations

import base64
import json
import socket
from contextlib import ExitStack, suppress
from io import BytesIO

import numpy as np
import pytest
from http_requests import near, post, send
from imports import ROOT
from model_server import running
from PIL import Image
from processes import free_port, until
from tiny_world import CLASSES, SIDE, choose, val_average, val_pixels

from pipeline.compose import compose
from pipeline.config import ServeConfig, from_dict
from pipeline.ensemble import server
from pipeline.ensemble.build import build_ensemble
from pipeline.ensemble.server import Served, classifier, listening
from pipeline.errors import MissingError, PipelineError
from pipeline.stages import serve
from pipeline.tracking import models
from pipeline.workspace import Workspace

MOST_BYTES, MOST_IMAGES = 100_000, 30


@pytest.fixture
def served(world):
    world.add_run(0.2, depth=14, normalize="per_pixel_mean")
    world.add_run(0.3)
    ensemble = build_ensemble(world.source, choose("best_per_depth"), world.root / "ensemble", {})
    model, version = models.load(world.location, "resnet-ensemble-tiny")
    assert version == ensemble.registered["version"]
    with running(classifier(model), "tiny", max_bytes=MOST_BYTES, max_images=MOST_IMAGES) as port:
        yield port, val_pixels(world), near(val_average(world, ensemble))


def png(image: np.ndarray) -> str:
    stream = BytesIO()
    Image.fromarray(image[..., 0]).save(stream, "PNG")
    return base64.b64encode(stream.getvalue()).decode()


def test_the_command_names_what_makes_the_ensemble_where_there_is_none(workspace):
    config = from_dict(compose(ROOT, [f"paths.mlruns={workspace() / 'mlruns'}"]))
    with pytest.raises(MissingError, match="no champion of resnet-ensemble-digits; `pipeline ensemble`"):
        serve.run(config, Workspace(ROOT, "digits"))


def test_it_answers_good_requests_and_refuses_others_in_one_sentence(served):
    port, pixels, answer = served
    assert post(port, {"inputs": pixels.tolist()}) == (200, answer)
    assert post(port, {"instances": [png(image) for image in pixels], "params": {"pixels": "uint8"}}) == (200, answer)
    assert post(port, {"inputs": (pixels / 255).tolist(), "params": {"pixels": "unit"}}) == (200, answer)
    for nothing in (None, {}, []):
        assert post(port, {"inputs": pixels.tolist(), "params": nothing}) == (200, answer)
    status, contract = send(port, b"", "GET", "/")
    assert (status, contract["classes"], contract["shape"]) == (200, list(CLASSES), [SIDE, SIDE, 1])

    one = pixels[:1].tolist()
    bodies = {
        b"": "no valid JSON",
        b"\xff\xfe": "no valid JSON",
        b"[" * 90_000: "no valid JSON",
        b'{"inputs":' * 9_000: "no valid JSON",
        b'{"inputs": [[[NaN]]]}': "no valid JSON",
        b'{"inputs": ' + b"9" * 50_000 + b"}": "no valid JSON",
        json.dumps({"inputs": (pixels[:1] / 255).tolist()}).encode(): "as a pixel; send integers",
        json.dumps(one).encode(): "no request as this server takes it",
        json.dumps({"inputs": one, "instances": one}).encode(): "no request as this server takes it",
        json.dumps({"inputs": one * (MOST_IMAGES + 1)}).encode(): "send at most 30 at once",
        json.dumps({"inputs": one, "params": {"pixel": "unit"}}).encode(): '"pixels" alone',
        json.dumps({"inputs": one, "params": {"pixels": [{}]}}).encode(): 'choose "uint8" or "unit"',
        json.dumps({"inputs": one, "params": ["pixels"]}).encode(): '"pixels" alone',
    }
    for body, sentence in bodies.items():
        status, refused = send(port, body)
        assert status == 400, body[:80]
        assert sentence in refused["message"] and "\n" not in refused["message"] and len(refused["message"]) < 500
    assert send(port, b" " * (MOST_BYTES + 1))[0] == 413
    assert send(port, b"{}", Content_Type="text/csv")[0] == 415
    assert send(port, b"{}", Content_Encoding="gzip")[0] == 415
    assert send(port, b"", "GET")[0] == 405
    assert send(port, b"", path="/else")[0] == 404
    assert post(port, {"inputs": pixels.tolist()}) == (200, answer)


def test_a_body_without_a_length_is_read_no_further_than_the_limit(served):
    port, *_ = served
    with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
        client.sendall(
            b"POST /invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for _ in range(MOST_BYTES // 0x4000 + 1):
            client.sendall(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        assert client.recv(64).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("/invocations", {}, 413, "send fewer images"),
        ("/invocations", {"Content_Type": "text/csv"}, 415, "send application/json"),
        ("/nowhere", {}, 404, "Not Found"),
        ("/", {}, 405, "Method Not Allowed"),
    ],
)
def test_a_refused_request_is_answered_however_long_it_is(
    path: str, headers: dict[str, str], status: int, words: str
) -> None:
    with running(Served({}, lambda images, pixels: None), "tiny", max_bytes=1000) as port:
        answers = [send(port, b" " * 3_000_000, path=path, **headers) for _ in range(20)]
    assert {answer for answer, _ in answers} == {status} and all(words in text["message"] for _, text in answers)


@pytest.mark.parametrize(("others", "status"), [(1, 200), (2, 503)])
def test_as_many_connections_as_allowed_get_an_answer(others: int, status: int) -> None:
    with running(Served({}, lambda images, pixels: None), "tiny", max_connections=2) as port, ExitStack() as stack:
        for _ in range(others):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")  # answered, and kept open
            assert client.recv(64).startswith(b"HTTP/1.1 200")
        assert send(port, b"", "GET", "/health")[0] == status


SHORT = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.parametrize("parts", [[], [b"GET / HT"], [SHORT, b"GET / HT"]], ids=["silent", "first", "next"])
def test_clients_that_never_finish_their_headers_lose_their_connections(
    parts: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def answers() -> bool:
        with suppress(OSError):  # a slow machine loses its own connection
            return send(port, b"", "GET", "/health")[0] == 200
        return False

    monkeypatch.setattr(server, "READ_S", 0.5)
    with running(Served({}, lambda images, pixels: None), "tiny", max_connections=2) as port, ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
            for part in parts:
                client.sendall(part)
                if part == SHORT:
                    assert client.recv(64).startswith(b"HTTP/1.1 ")
        until(answers, "an answer")


def test_a_port_in_use_and_an_address_of_another_machine_are_one_sentence() -> None:
    with listening(ServeConfig(port=free_port())) as first:
        port = first.getsockname()[1]
        with pytest.raises(PipelineError, match=rf"serve.port={port}: Address already in use.*serve.port={port + 1}"):
            listening(ServeConfig(port=port))
    with pytest.raises(PipelineError, match=r"serve\.host=192\.0\.2\.1 and serve\.port="):
        listening(ServeConfig(host="192.0.2.1"))
