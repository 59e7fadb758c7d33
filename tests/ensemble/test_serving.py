from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from processes import free_port, until
from tiny_world import CLASSES, SIDE, choose

from pipeline.ensemble.averaging import average
from pipeline.ensemble.build import build_ensemble
from pipeline.ensemble.predictions import validation_images


def post(port: int, images: np.ndarray) -> np.ndarray:
    body = json.dumps({"inputs": images.tolist()}).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}/invocations", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        return np.array(json.load(answer)["predictions"], dtype=np.float32)


@pytest.fixture
def served(world):
    """Port of `mlflow models serve` for an ensemble of two, from a folder that knows nothing of this repository."""
    world.add_run(0.2, depth=14, normalize="per_pixel_mean")
    world.add_run(0.3)
    world.ensemble = build_ensemble(world.source, choose("best_per_depth"), world.root / "ensemble", {})
    port, elsewhere = free_port(), world.root / "elsewhere"
    elsewhere.mkdir()
    uri = world.location.uri
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        "models:/resnet-ensemble-tiny@champion",
    ]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # where MLflow looks for uvicorn
    environment = {**os.environ, "PATH": path, "MLFLOW_TRACKING_URI": uri}
    environment.pop("MLFLOW_REGISTRY_URI", None)
    with (world.root / "serve.log").open("w") as log:
        server = subprocess.Popen(
            command, cwd=elsewhere, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            until(lambda: server.poll() is not None or answers(port), "the served model")
            assert server.poll() is None, (world.root / "serve.log").read_text()
            yield world, port
        finally:
            _stop(server)


def _stop(server: subprocess.Popen) -> None:
    """Ends the server and the process it made; killpg, for MLflow passes no signal on."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(20)


def answers(port: int) -> bool:
    with suppress(OSError):
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5).status == 200
    return False


@pytest.mark.slow
def test_the_served_champion_answers_with_our_probabilities(served):
    world, port = served
    images = validation_images(world.store)
    pixels = np.array(images.records.images[images.indices])
    folder = world.root / "ensemble" / "val_probabilities"
    ours = average(
        [np.load(folder / f"{member.checkpoint_sha256}.npy") for member in world.ensemble.members],
        [member.weight for member in world.ensemble.members],
    )
    np.testing.assert_allclose(post(port, pixels), ours, atol=1e-6)
    assert post(port, pixels[:1]).shape == (1, len(CLASSES))
    with pytest.raises(urllib.error.HTTPError) as refused:
        post(port, np.zeros((1, SIDE + 1, SIDE, 1), np.uint8))
    assert refused.value.code == 400
