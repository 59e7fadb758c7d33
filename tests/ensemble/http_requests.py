"""Requests to a served ensemble."""

from __future__ import annotations

import http.client
import json
from typing import Any

import numpy as np
import pytest
from tiny_world import CLASSES


def send(port: int, body: bytes, method: str = "POST", path: str = "/invocations", **headers: str) -> tuple[int, Any]:
    """Status and parsed answer; headers as `Content_Type`."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    names = {"Content-Type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
    try:
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        text = answer.read()
        return answer.status, json.loads(text) if answer.headers["Content-Type"] == "application/json" else text
    finally:
        connection.close()


def post(port: int, request: Any) -> tuple[int, Any]:
    return send(port, json.dumps(request).encode())


def near(probabilities: np.ndarray) -> Any:
    """What a 200 holds for these (N, K) probabilities."""
    return {"predictions": [pytest.approx(dict(zip(CLASSES, row, strict=True)), abs=1e-6) for row in probabilities]}
