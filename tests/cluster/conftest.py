"""A Ray cluster of four hosts, the trainings that nothing disturbs, and a line of figures for each case."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hosts import machines
from processes import Command
from ray_cluster import PASSWORD, RATES, TRAINING, Cluster, mlflow_servers
from runs import Workspaces

from benchmarks.servers import NoServerError, postgres_server

_lines: list[str] = []


@pytest.fixture(scope="session")
def database() -> Iterator[int]:
    """Port of a PostgreSQL."""
    try:
        with postgres_server(PASSWORD) as port:
            yield port
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def cluster(workspace: Workspaces, database: int) -> Iterator[Cluster]:
    root = workspace()
    with machines(["head", "w1", "w2", "w3"], root) as hosts, mlflow_servers(database, root) as servers:
        made = Cluster(root, hosts, servers)
        made.ray_head()
        for name in made.workers:
            made.ray_worker(name)
        yield made


@pytest.fixture(scope="session")
def undisturbed(workspace: Workspaces) -> Path:
    """The workspace of the sweep's trainings, each alone on this machine."""
    root = workspace()
    for rate in RATES:
        Command(root, "train", *TRAINING, f"recipe.lr={rate}").succeed()
    return root


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Notes what the case came to, for the table at the end."""
    start = time.monotonic()
    title = request.node.name.removeprefix("test_").replace("_", " ")

    def note(text: str) -> None:
        _lines.append(f"{title}: {text} ({time.monotonic() - start:.0f} s)")

    return note


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for line in _lines:
        terminalreporter.write_line(line)
