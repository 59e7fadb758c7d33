from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from pipeline.border import MACHINE, system_error
from pipeline.tracking.location import (
    KEY_TAG,
    Location,
    client,
    experiment_id,
    find_run,
    locate,
    require_answer,
)


def test_only_without_an_address_runs_are_tracked_below_mlruns(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "mlruns"
    assert locate("http://server:5000", folder) == Location("http://server:5000")
    assert not folder.exists()
    assert locate("", folder) == Location(f"sqlite:///{folder}/mlflow.db", f"file://{folder}/artifacts")
    assert folder.is_dir()


def test_a_relative_folder_lies_below_the_current_one(tmp_path: Path) -> None:
    assert locate("", "mlruns") == locate("", tmp_path / "mlruns")


def test_the_environment_does_not_redirect_a_client(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1")
    assert client(location).search_registered_models() == []
    assert [entry.name for entry in client(location).search_experiments()] == ["Default"]


def test_two_makers_of_an_experiment_get_the_same_one(location: Location) -> None:
    start = threading.Barrier(4)

    def make(_: int) -> str:
        mlflow = client(location)
        start.wait()
        return experiment_id(mlflow, "digits", location)

    with ThreadPoolExecutor(4) as pool:
        (experiment,) = set(pool.map(make, range(4)))
    made = client(location).get_experiment(experiment)
    assert made.artifact_location == f"{location.artifacts}/digits"


def test_a_run_is_looked_up_by_its_key_within_one_experiment(location: Location) -> None:
    mlflow = client(location)
    one, other = (experiment_id(mlflow, name, location) for name in ("one", "other"))
    run = mlflow.create_run(one, tags={KEY_TAG: "abc"})
    mlflow.create_run(one, tags={KEY_TAG: "abcd"})
    assert find_run(mlflow, one, "abc").info.run_id == run.info.run_id
    assert find_run(mlflow, other, "abc") is None


def test_a_slow_answer_makes_no_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has taken a request without an answer may have created the run already."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    requests: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                connection, _ = server.accept()
                requests.append(connection.recv(65536))

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(MlflowException):
            client(Location(f"http://127.0.0.1:{server.getsockname()[1]}")).create_run("1")
        time.sleep(0.2)
    assert [request.split()[0] for request in requests] == [b"POST"]


@pytest.mark.parametrize("words", ["attempt to write a readonly database", "database or disk is full"])
def test_a_store_whose_disk_fails_has_the_disks_sentence(
    words: str, location: Location, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: Location) -> None:
        raise MlflowException(f"(sqlite3.OperationalError) {words}")

    monkeypatch.setattr("pipeline.tracking.location.client", fails)
    with pytest.raises(MlflowException, match=words) as raised:
        require_answer(location, "members are runs")
    assert system_error(raised.value)[1] == MACHINE
