"""The models of trainings in a real store of MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_world import CLASSES, SIDE, World

from pipeline.run import SERVED
from pipeline.run.weights import BEST
from pipeline.tracking.location import client, find_run
from pipeline.tracking.shipper import ship
from pipeline.tracking.sync import sync


@pytest.fixture
def trained(world: World) -> tuple[World, str, str]:
    key = world.add_run(0.2, model=True)
    return world, key, find_run(client(world.location), "1", key).info.run_id


def models_of(world: World, run_id: str) -> list:
    return list(client(world.location).search_logged_models(["1"], f"source_run_id = '{run_id}'"))


def test_a_training_has_a_model_with_signature_example_and_class_names(trained):
    world, _, run_id = trained
    (model,) = models_of(world, run_id)
    assert (model.name, model.status, model.source_run_id) == ("model", "READY", run_id)
    run = client(world.location).get_run(run_id)
    assert [output.model_id for output in run.outputs.model_outputs] == [model.model_id]
    import mlflow

    mlflow.set_tracking_uri(world.location.uri)
    info = mlflow.models.get_model_info(f"models:/{model.model_id}")
    assert info.signature.outputs.input_names() == list(CLASSES)
    example = np.array(mlflow.pyfunc.load_model(f"models:/{model.model_id}").input_example)
    assert example.shape == (1, SIDE, SIDE, 1)


def test_shipping_again_makes_no_second_model(trained):
    world, key, run_id = trained
    before = [model.model_id for model in models_of(world, run_id)]
    ship(world.runs / key, world.location)
    run = client(world.location).get_run(run_id)
    client(world.location).set_tag(run_id, "pipeline.shipped", "")  # all of the journal comes once more
    ship(world.runs / key, world.location)
    assert [model.model_id for model in models_of(world, run.info.run_id)] == before


def test_a_model_that_was_deleted_comes_back_and_one_that_was_cut_off_goes(trained):
    world, _, run_id = trained
    (model,) = models_of(world, run_id)
    client(world.location).delete_logged_model(model.model_id)
    cut_off = client(world.location).create_logged_model("1", name="model", source_run_id=run_id)
    assert sync(world.runs, world.location, thorough=True).shipped == 1
    (again,) = models_of(world, run_id)
    assert again.model_id not in (model.model_id, cut_off.model_id) and again.status == "READY"
    assert sync(world.runs, world.location, thorough=True).shipped == 0


def test_a_model_whose_weights_were_cut_short_is_made_again(trained):
    world, key, run_id = trained
    (model,) = models_of(world, run_id)
    copies = Path(world.location.artifacts.removeprefix("file://")).rglob(BEST)
    (weights,) = (path for path in copies if model.model_id in path.parts)
    weights.write_bytes(weights.read_bytes()[:-1])
    assert sync(world.runs, world.location, thorough=True).shipped == 1
    (again,) = models_of(world, run_id)
    assert again.model_id != model.model_id
    copies = Path(world.location.artifacts.removeprefix("file://")).rglob(BEST)
    (weights,) = (path for path in copies if again.model_id in path.parts)
    assert weights.read_bytes() == (world.runs / key / BEST).read_bytes()


def test_files_that_are_gone_make_no_model(world):
    key = world.add_run(0.2, model=True, status="")
    folder, run_id = world.runs / key, find_run(client(world.location), "1", key).info.run_id
    assert json.loads((folder / SERVED).read_text())["members"][0]["weight"] == 1.0
    (model,) = models_of(world, run_id)
    client(world.location).delete_logged_model(model.model_id)
    (folder / BEST).unlink()
    client(world.location).set_tag(run_id, "pipeline.shipped", "")
    ship(folder, world.location)
    assert models_of(world, run_id) == []
