"""Stores of objects: a folder, and a server of S3's protocol."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.servers import free_port, s3_environment, s3_server
from pipeline.storage.objects import Objects


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a server with the bucket `pipeline`."""
    with s3_server("127.0.0.1", free_port(), "pipeline", tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture(params=["file", "s3"])
def objects(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Objects:
    if request.param == "file":
        return Objects(f"file://{tmp_path}/store")
    for name, value in s3_environment(request.getfixturevalue("s3")).items():
        monkeypatch.setenv(name, value)
    return Objects(f"s3://pipeline/{tmp_path.name}")
