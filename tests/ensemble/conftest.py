from __future__ import annotations

from pathlib import Path

import pytest
from tiny_world import World, write_store

from pipeline.tracking import location as tracking


@pytest.fixture
def location(tmp_path, mlflow_database: Path) -> tracking.Location:
    """Of an MLflow database with nothing in it."""
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    return tracking.locate("", tmp_path / "mlruns")


@pytest.fixture
def world(tmp_path, location) -> World:
    return World(tmp_path, write_store(tmp_path / "store"), location)


@pytest.fixture
def shard_world(tmp_path, location) -> World:
    return World(tmp_path, write_store(tmp_path / "store", "shards", "tiny_shards"), location)
