"""The registered model, in processes that cannot import this repository."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress

import mlflow
import numpy as np
import pytest
from elsewhere import elsewhere, predicted
from http_requests import near, post
from imports import ROOT, closure, imported
from processes import free_port, until
from tiny_world import CLASSES, SIDE, World, choose, val_average, val_pixels

from pipeline.ensemble.build import Ensemble, build_ensemble
from pipeline.ensemble.predictions import validation_images
from pipeline.run.inputs import Resize, resize_of
from pipeline.run.weights import BEST
from pipeline.tracking.kinds import CLASSIFIER
from pipeline.tracking.location import client, find_run

MODEL = ROOT / "pipeline/ensemble/model.py"


def made(world: World) -> Ensemble:
    world.add_run(0.2, depth=14, normalize="per_pixel_mean")
    world.add_run(0.3)
    return build_ensemble(world.source, choose("best_per_depth"), world.root / "ensemble", {})


@pytest.mark.slow
def test_the_registered_model_brings_the_code_that_it_imports_and_no_more(world):
    ensemble = made(world)
    (code,) = world.root.rglob("code/pipeline_*")
    carried = {path.relative_to(code) for path in code.rglob("*") if path.is_file()}
    assert carried == {path.relative_to(ROOT / "pipeline") for path in closure(MODEL)}

    model = "models:/resnet-ensemble-tiny@champion"
    probabilities = predicted(world.root, world.location.uri, model, val_pixels(world))
    assert tuple(probabilities.columns) == CLASSES
    np.testing.assert_allclose(probabilities, val_average(world, ensemble), atol=1e-6)


@pytest.mark.slow
def test_a_training_is_a_model_of_its_run(world):
    key = world.add_run(0.2, normalize="per_pixel_mean", model=True)
    run_id = find_run(client(world.location), "1", key).info.run_id
    (expected,) = [world.source.probabilities(world.runs / key / BEST, validation_images(world.store))]
    probabilities = predicted(world.root, world.location.uri, f"runs:/{run_id}/model", val_pixels(world))
    assert tuple(probabilities.columns) == CLASSES
    np.testing.assert_allclose(probabilities, expected, atol=1e-6)
    mlflow.set_tracking_uri(world.location.uri)
    version = mlflow.register_model(f"runs:/{run_id}/model", "mine")
    assert (version.run_id, version.version) == (run_id, 1)


def test_the_registered_model_requires_the_libraries_that_it_imports():
    names = {name.split(".")[0] for path in closure(MODEL) for name in imported(path)}
    checking = {"pydantic", "pydantic_core"}  # checks values that a user wrote; a model has none
    libraries = {"PIL": "pillow"}
    names = {libraries.get(name, name) for name in names - sys.stdlib_module_names - {"pipeline"} - checking}
    assert names == set(CLASSIFIER.needs)


def loaded(world: World, name: str):
    mlflow.set_tracking_uri(world.location.uri)
    return mlflow.pyfunc.load_model(f"models:/{name}@champion")


def test_a_model_of_jpegs_takes_crops(shard_world):
    world = shard_world
    world.add_run(0.2, depth=14)
    world.add_run(0.3)
    ensemble = build_ensemble(world.source, choose("best_per_depth"), world.root / "ensemble", {})
    images = validation_images(world.store)
    crops, _ = images.batches(ensemble.members[0]).fetch(images.indices, None)
    model = loaded(world, "resnet-ensemble-tiny_shards")
    resize = Resize.read(model.unwrap_python_model().resize)
    assert resize == resize_of(world.store, ensemble.members[0]) and (resize.format, resize.shape) == (
        "shards",
        (8, 8, 3),
    )
    probabilities = model.predict(crops.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(probabilities, val_average(world, ensemble), atol=1e-6)
    with pytest.raises(Exception, match="shape"):
        model.predict(np.zeros((1, SIDE + 1, SIDE, 3), np.uint8))


def test_members_with_different_crops_cannot_be_served_together(shard_world):
    shard_world.add_run(0.2, depth=14, crop=16)
    shard_world.add_run(0.3)
    with pytest.raises(ValueError, match="the members take different crops"):
        build_ensemble(shard_world.source, choose("best_per_depth"), shard_world.root / "ensemble", {})
    assert not (shard_world.root / "ensemble").exists()
    assert not list(shard_world.source.runs.glob("ensemble-*"))  # nor a run of it in MLflow


def _stop(server: subprocess.Popen) -> None:
    """Ends the server and its child; MLflow passes no signal on to it."""
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
def test_the_served_champion_answers_with_our_probabilities(world):
    ensemble, (folder, environment), port = made(world), elsewhere(world.root), free_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager", "local", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--model-uri", "models:/resnet-ensemble-tiny@champion"]
    environment |= {"MLFLOW_TRACKING_URI": world.location.uri}
    with (world.root / "serve.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            until(lambda: server.poll() is not None or answers(port), "the served model")
            assert server.poll() is None, (world.root / "serve.log").read_text()
            pixels = val_pixels(world)
            assert post(port, {"inputs": pixels.tolist()}) == (200, near(val_average(world, ensemble)))
            status, answer = post(port, {"inputs": (pixels / 255).tolist(), "params": {"pixels": "unit"}})
            assert (status, answer) == (200, near(val_average(world, ensemble)))
            for wrong in ((pixels / 255).tolist(), [[[[True]] * SIDE] * SIDE], ["0"], pixels[:, :4].tolist()):
                assert post(port, {"inputs": wrong})[0] == 400
        finally:
            _stop(server)
