from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest
from tiny_world import World, write_store

from pipeline.tracking import store as tracking


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory) -> Path:
    """An MLflow database with its tables, made once: that takes seconds."""
    folder = tmp_path_factory.mktemp("mlflow")
    location = tracking.locate("", folder)
    tracking.client(location).search_experiments(max_results=1)
    return folder / "mlflow.db"


@pytest.fixture
def location(tmp_path, empty_database) -> Iterator[tracking.Location]:
    """A fresh MLflow database, also named by MLflow's environment for the calls that know no other way."""
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(empty_database.read_bytes())
    location = tracking.locate("", tmp_path / "mlruns")
    yield location
    mlflow.set_tracking_uri(None)  # type: ignore[arg-type]
    mlflow.set_registry_uri(None)  # type: ignore[arg-type]


@pytest.fixture
def world(tmp_path, location) -> World:
    return World(tmp_path, write_store(tmp_path / "store"), location)


@pytest.fixture
def shard_world(tmp_path, location) -> World:
    return World(tmp_path, write_store(tmp_path / "store", "shards", "tiny_shards"), location)
