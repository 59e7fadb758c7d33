"""A Ray cluster of four hosts, the trainings that nothing disturbs, and a line of figures for each case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from apart import Apart, hosts_apart
from hosts import machines
from processes import Command
from ray_cluster import PASSWORD, RATES, TRAINING, Cluster, Database, mlflow_servers
from runs import Workspaces
from s3 import Store, s3_store
from table import case_of, write_cases

from benchmarks.servers import NoServerError, postgres_folder


@pytest.fixture(scope="session")
def database() -> Iterator[Database]:
    try:
        with postgres_folder(PASSWORD) as folder, closing(Database(folder)) as made:
            made.on()
            made.make_empty()
            yield made
    except NoServerError as error:
        pytest.skip(str(error))


@pytest.fixture
def without_ray(workspace: Workspaces, database: Database) -> Iterator[Cluster]:
    root = workspace()
    with machines(["head", "w1", "w2", "w3"], root) as hosts, mlflow_servers(database, root) as servers:
        yield Cluster(root, hosts, servers)


@pytest.fixture
def cluster(without_ray: Cluster) -> Cluster:
    without_ray.ray()
    return without_ray


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    with s3_store(tmp_path) as made:
        for name, value in made.here.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
def apart(workspace: Workspaces, database: Database, store: Store) -> Iterator[Apart]:
    with hosts_apart(workspace(), database, store) as made:
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

    def note(text: str) -> None:
        request.node.user_properties.append(("figures", text))

    return note


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--table", type=Path, help="page whose table gets the cases of this run")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    reports = [*terminalreporter.stats.get("passed", []), *terminalreporter.stats.get("failed", [])]
    cases = [case_of(report) for report in reports if report.when == "call"]
    for case in cases:
        terminalreporter.write_line(f"{case.title}: {case.outcome} ({case.seconds:.0f} s)")
    if (page := config.getoption("table")) and cases:
        write_cases(page, cases)
