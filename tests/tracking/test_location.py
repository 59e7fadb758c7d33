from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from pipeline.tracking.location import KEY_TAG, Location, client, experiment_id, find_run, locate


def test_without_an_address_runs_are_tracked_below_mlruns(tmp_path: Path) -> None:
    found = locate("", tmp_path / "a" / "mlruns")
    assert found == Location(f"sqlite:///{tmp_path}/a/mlruns/mlflow.db", f"file://{tmp_path}/a/mlruns/artifacts")
    assert (tmp_path / "a" / "mlruns").is_dir()


def test_an_address_is_taken_as_it_is_and_makes_no_folder(tmp_path: Path) -> None:
    assert locate("http://server:5000", tmp_path / "mlruns") == Location("http://server:5000")
    assert not (tmp_path / "mlruns").exists()


def test_the_environment_does_not_redirect_a_client(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1")
    assert client(location).search_registered_models() == []
    assert [found.name for found in client(location).search_experiments()] == ["Default"]


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


def test_a_run_is_found_by_its_key_in_its_experiment_alone(location: Location) -> None:
    mlflow = client(location)
    one, other = (experiment_id(mlflow, name, location) for name in ("one", "other"))
    run = mlflow.create_run(one, tags={KEY_TAG: "abc"})
    mlflow.create_run(one, tags={KEY_TAG: "abcd"})
    found = find_run(mlflow, one, "abc")
    assert found is not None and found.info.run_id == run.info.run_id
    assert find_run(mlflow, other, "abc") is None


def test_a_slow_answer_makes_no_second_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes a request and says nothing has perhaps made the run already."""
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
