from __future__ import annotations

import pytest
from tiny_world import World, write_store


@pytest.fixture
def world(tmp_path, location) -> World:
    return World(tmp_path, write_store(tmp_path / "store"), location)


@pytest.fixture
def shard_world(tmp_path, location) -> World:
    return World(tmp_path, write_store(tmp_path / "store", "shards", "tiny_shards"), location)
