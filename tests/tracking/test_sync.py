"""MLflow and the journals agree again, whatever was lost, deleted or moved."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from click.testing import CliRunner
from mlflow.tracking._tracking_service.utils import _artifact_repos_cache
from mlflow_server import Server
from processes import Command
from runs import follow

from pipeline.errors import PipelineError
from pipeline.tracking import location as tracking
from pipeline.tracking import sync as syncing
from pipeline.tracking.journal import NAME, Journal
from pipeline.tracking.location import KEY_TAG, PARENT_TAG, SHIPPED_TAG, Location, client, locate
from pipeline.tracking.registry import download, run_of
from pipeline.tracking.results import keep_files, keep_test_errors
from pipeline.tracking.shipper import STATE, run_id, ship
from pipeline.tracking.sync import sync

PARENT, CHILD, ARTIFACT = "sweep-a", "0c41d", "best.safetensors"  # the child sorts before its parent
STEPS = [1, 2, 3, 4, 5]


def journal(folder: Path, key: str, steps: list[int] = STEPS, **tags: str) -> Journal:
    """Of a finished training."""
    written = Journal(folder)
    written.begin(f"run-{key}", "digits", {"lr": 0.1}, {KEY_TAG: key, **tags})
    for step in steps:
        written.metrics(step, {"train/loss": 1 / step})
    written.end("FINISHED")
    return written


@pytest.fixture
def root(tmp_path: Path, workspace: Callable[[], Path], mlflow_database: Path) -> Path:
    """A workspace with the journals of a sweep, its trial and their test errors, all of which MLflow has."""
    root = tmp_path / "checkout"
    shutil.move(workspace(), root)
    shutil.copy(mlflow_database, root / "other.db")
    journal(root / "runs" / PARENT, PARENT)
    (root / "runs" / CHILD).mkdir()
    (root / "runs" / CHILD / ARTIFACT).write_bytes(b"weights")
    journal(root / "runs" / CHILD, CHILD, **{PARENT_TAG: PARENT}).artifact(
        root / "runs" / CHILD / ARTIFACT, "checkpoints"
    )
    keep_test_errors(root / "runs", "digits", {CHILD: (5, {"test_err1": 0.25})})
    assert sync(root / "runs", at(root)).shipped == 3
    return root


def at(root: Path) -> Location:
    return locate("", root / "mlruns")


def the_runs(location: Location) -> dict[str, Any]:
    """The active runs by key."""
    mlflow = client(location)
    found = mlflow.search_runs([mlflow.get_experiment_by_name("digits").experiment_id], f"tags.`{KEY_TAG}` != ''")
    runs = {run.data.tags[KEY_TAG]: run for run in found}
    assert len(runs) == len(found)
    return runs


def assert_whole(root: Path, location: Location | None = None) -> dict[str, Any]:
    """MLflow has all that the journals of `root` hold, once; a comparison finds nothing to ship."""
    here = location or at(root)
    mlflow, runs = client(here), the_runs(here)
    assert runs.keys() == {PARENT, CHILD}
    for key, run in runs.items():
        history = mlflow.get_metric_history(run.info.run_id, "train/loss")
        assert [(point.step, point.value) for point in history] == [(step, 1 / step) for step in STEPS]
        assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.1"})
        assert run_id(root / "runs" / key, here) == run.info.run_id
    child = runs[CHILD]
    assert child.data.tags["mlflow.parentRunId"] == runs[PARENT].info.run_id
    assert child.data.metrics["test_err1"] == 0.25
    copy = Path(mlflow.download_artifacts(child.info.run_id, f"checkpoints/{ARTIFACT}", str(root)))
    assert copy.read_bytes() == b"weights"
    if location is None:
        assert list((root / "mlruns" / "artifacts").rglob(ARTIFACT))
    again = sync(root / "runs", here, thorough=True)
    assert (again.journals, again.shipped, again.restored, again.failed) == (3, 0, 0, 0)
    return runs


def without_its_database(root: Path) -> None:
    (root / "mlruns" / "mlflow.db").unlink()


def without_mlruns(root: Path) -> None:
    shutil.rmtree(root / "mlruns")


def with_the_database_of_others(root: Path) -> None:
    mlflow = client(Location(f"sqlite:///{root}/other.db"))
    mlflow.create_run(mlflow.create_experiment("digits"), tags={"mine": "yes"})
    os.replace(root / "other.db", root / "mlruns" / "mlflow.db")


def with_a_backup_of_its_database(root: Path) -> None:
    path = root / "mlruns" / "mlflow.db"
    shutil.copy(path, root / "backup")
    for key in (PARENT, CHILD):
        Journal(root / "runs" / key).tags({"later": "yes"})
    sync(root / "runs", at(root))
    os.replace(root / "backup", path)


def without_artifacts(root: Path) -> None:
    shutil.rmtree(root / "mlruns" / "artifacts")


def without_a_tag(root: Path) -> None:
    client(at(root)).set_tag(the_runs(at(root))[CHILD].info.run_id, PARENT_TAG, "another")


def with_a_deleted_run(root: Path) -> None:
    client(at(root)).delete_run(the_runs(at(root))[CHILD].info.run_id)


def without_a_run(root: Path) -> None:
    delete_for_good(root, PARENT)


def with_a_deleted_experiment(root: Path) -> None:
    mlflow = client(at(root))
    mlflow.delete_experiment(mlflow.get_experiment_by_name("digits").experiment_id)


def without_the_experiment(root: Path) -> None:
    entry = client(at(root)).get_experiment_by_name("digits").experiment_id
    with_a_deleted_experiment(root)
    gc(at(root), "--experiment-ids", entry)


def delete_for_good(root: Path, key: str) -> None:
    run = the_runs(at(root))[key].info.run_id
    client(at(root)).delete_run(run)
    gc(at(root), "--run-ids", run)


def gc(location: Location, *arguments: str) -> None:
    from mlflow.cli import gc as collect

    words = ["--backend-store-uri", location.uri, "--tracking-uri", location.uri, *arguments]
    done = CliRunner().invoke(collect, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output


LOST = [with_the_database_of_others, with_a_backup_of_its_database, without_a_run, without_the_experiment]
DELETED = [with_a_deleted_run, with_a_deleted_experiment]


@pytest.mark.parametrize("loss", [without_mlruns, *LOST, *DELETED, without_artifacts, without_a_tag])
def test_sync_makes_both_agree(loss: Callable[[Path], None], root: Path) -> None:
    loss(root)
    sync(root / "runs", at(root), thorough=True)
    assert_whole(root)


@pytest.mark.parametrize("loss", [without_its_database, *LOST])
def test_what_is_lost_comes_back_with_any_stage_that_reads_mlflow(loss: Callable[[Path], None], root: Path) -> None:
    loss(root)
    sync(root / "runs", at(root))
    assert_whole(root)


@pytest.mark.parametrize("loss", DELETED)
def test_what_was_deleted_stays_so_until_sync_is_asked_to(
    loss: Callable[[Path], None], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loss(root)
    before = the_runs(at(root)).keys()
    assert sync(root / "runs", at(root)).shipped == 0 and the_runs(at(root)).keys() == before
    assert "were deleted in MLflow" in caplog.text and "`pipeline sync`" in caplog.text
    output = Command(root, "sync").succeed().output
    assert "restored" in output
    assert_whole(root)


def test_a_checkout_may_be_moved_with_its_runs_and_its_database(root: Path) -> None:
    moved = root.with_name("moved # to a place")
    root.rename(moved)
    _artifact_repos_cache.clear()  # which a process that starts after the move does not have
    assert sync(moved / "runs", at(moved)).shipped == 0
    assert_whole(moved)
    weights = moved / "runs" / "new" / ARTIFACT
    written = journal(weights.parent, "new")
    weights.write_bytes(b"weights")
    written.artifact(weights, "checkpoints")
    ship(moved / "runs" / "new", at(moved))
    assert not root.exists() and len(list((moved / "mlruns" / "artifacts").rglob(ARTIFACT))) == 2


def test_each_ensemble_keeps_its_own_evaluation(root: Path, tmp_path: Path) -> None:
    """All ensembles on a data set are evaluated into the same files of the workspace."""
    runs, page = root / "runs", tmp_path / "evaluate.json"
    for key in ("one", "another"):
        journal(runs / f"ensemble-{key}", key)
        page.write_text(key)
        keep_files(runs, key, {page: "evaluation"})
        sync(runs, at(root))
    assert sync(runs, at(root), thorough=True).shipped == 0
    for copies in ("before the loss", "after it"):
        for key in ("one", "another"):
            run, folder = the_runs(at(root))[key].info.run_id, tmp_path / copies / key
            assert download(at(root), run, "evaluation/evaluate.json", folder).read_text() == key
        without_artifacts(root)
        sync(runs, at(root), thorough=True)


def test_a_moved_checkout_fills_a_new_database_too(root: Path) -> None:
    moved = root.with_name("moved")
    root.rename(moved)
    with_the_database_of_others(moved)
    sync(moved / "runs", at(moved))
    assert_whole(moved)


def test_clones_that_share_their_runs_have_databases_of_their_own(root: Path, tmp_path: Path) -> None:
    (tmp_path / "second").mkdir()
    shutil.move(root / "other.db", tmp_path / "second" / "mlflow.db")
    other = locate("", tmp_path / "second")
    assert sync(root / "runs", other).shipped == 3
    for here in (at(root), other, at(root)):
        assert sync(root / "runs", here).shipped == 0
        assert_whole(root, here)


def test_clones_that_share_a_database_add_nothing_to_each_others_finished_runs(root: Path, tmp_path: Path) -> None:
    before = the_runs(at(root))
    second = tmp_path / "second"
    journal(second / CHILD, CHILD, **{PARENT_TAG: PARENT})  # the same training, at another time
    for thorough in (False, True):
        assert sync(second, at(root), thorough=thorough).shipped == 0
    assert run_id(second / CHILD, at(root)) == before[CHILD].info.run_id
    assert_whole(root)


def test_a_run_that_is_worked_on_is_restored_or_made_again(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, here = root / "runs" / CHILD, at(root)
    shipped = ship(folder, here)
    assert shipped is not None
    for lose, kept in ((with_a_deleted_run, True), (lambda root: delete_for_good(root, CHILD), False)):
        lose(root)
        step = Journal(folder).last_step("") + 1
        Journal(folder).metrics(step, {"more": 1.0})
        again = ship(folder, here, shipped)  # by a process that remembers the run
        assert again is not None and (again.run_id == shipped.run_id) == kept
        shipped, run = again, the_runs(here)[CHILD]
        assert run.info.run_id == shipped.run_id and {"more", "train/loss"} <= run.data.metrics.keys()
    assert "deleted in MLflow" in caplog.text


def test_a_deleted_experiment_is_a_sentence_whose_remedy_works(root: Path) -> None:
    with_a_deleted_experiment(root)
    written = journal(root / "runs" / "new", "new")
    with pytest.raises(PipelineError, match=r"experiment digits was deleted .*; `pipeline sync`.* restores it"):
        ship(root / "runs" / "new", at(root))
    assert "the deleted experiment digits restored with its runs" in Command(root, "sync").succeed().output
    written.tags({"later": "yes"})
    ship(root / "runs" / "new", at(root))
    assert the_runs(at(root))["new"].data.tags["later"] == "yes"


def test_a_deleted_run_is_named_where_its_weights_are_asked_for(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = the_runs(at(root))[CHILD].info.run_id
    assert run_of(at(root), CHILD).info.run_id == run_of(at(root), run).info.run_id == run
    with_a_deleted_run(root)
    for name in (CHILD, run):
        with pytest.raises(FileNotFoundError, match=f"not deleted; `.* mlflow runs restore --run-id {run}`") as refused:
            run_of(at(root), name)
    follow(str(refused.value), monkeypatch)
    assert run_of(at(root), CHILD).info.run_id == run


def test_parents_come_first_and_a_journal_that_cannot_be_shipped_holds_up_no_other(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = root / "runs" / PARENT / NAME
    path.write_bytes(b"x" + path.read_bytes()[1:])  # the line that begins the run
    Journal(root / "runs" / CHILD).metrics(6, {"train/loss": 1 / 6})
    done = sync(root / "runs", at(root))
    assert (done.shipped, done.failed) == (1, 1) and f"{path} was not shipped to MLflow" in caplog.text
    command = Command(root, "sync")
    assert command.wait() == 2 and "1 of 3 journals could not be shipped" in command.output
    assert "Traceback" not in command.output


class Halfway(BaseHTTPRequestHandler):
    """A server that answers and cannot read its runs."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200 if self.path.endswith("experiments/search") else 500)
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_POST  # noqa: N815


def test_a_server_that_cannot_read_its_runs_is_a_sentence(root: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Halfway) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(
            PipelineError, match=r"^MLflow at http.* cannot read its own runs \(.*\); its own log says why"
        ):
            sync(root / "runs", Location(f"http://127.0.0.1:{server.server_port}"))
        server.shutdown()


class Counting:
    """An MLflow client that notes the names of its calls."""

    def __init__(self, whole: Any, calls: list[str]) -> None:
        self._whole, self._calls = whole, calls

    def __getattr__(self, name: str) -> Any:
        self._calls.append(name)
        return getattr(self._whole, name)


@pytest.mark.parametrize("thorough", [False, True])
def test_what_mlflow_has_in_full_costs_a_page_for_many_runs(
    thorough: bool, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        journal(root / "runs" / f"more{number}", f"more{number}")
    sync(root / "runs", at(root))
    calls: list[str] = []
    monkeypatch.setattr(tracking, "PAGE", 4)
    monkeypatch.setattr(syncing, "client", lambda to: Counting(client(to), calls))
    assert sync(root / "runs", at(root), thorough=thorough).shipped == 0
    assert sorted(calls) == ["get_experiment_by_name", *["search_runs"] * 3]
    for state in (root / "runs").glob(f"*/{STATE}"):
        state.unlink()  # nothing depends on it
    assert sync(root / "runs", at(root), thorough=thorough).shipped == 0
    assert run_id(root / "runs" / CHILD, at(root)) == the_runs(at(root))[CHILD].info.run_id


def test_a_tag_of_others_is_no_word_on_a_journal(root: Path) -> None:
    run = the_runs(at(root))[CHILD].info.run_id
    for value in ("", "-", "7", "1e9-0", "99999999999999999999-00000000", "\u0663-00000000"):
        client(at(root)).set_tag(run, SHIPPED_TAG, value)
        assert sync(root / "runs", at(root)).shipped == 1, value
    assert_whole(root)


@pytest.mark.slow
def test_a_server_that_has_lost_its_store_or_a_run_gets_it_back(root: Path, tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    (tmp_path / "server").mkdir()
    here = Location(server.uri)
    try:
        server.start()
        assert sync(root / "runs", here).shipped == 3
        assert_whole(root, here)
        client(here).delete_run(the_runs(here)[CHILD].info.run_id)
        assert "1 deleted run restored" in Command(root, "sync", f"tracking.uri={server.uri}").succeed().output
        assert_whole(root, here)
        server.kill()
        shutil.rmtree(tmp_path / "server")
        (tmp_path / "server").mkdir()
        server.start()
        assert "3 journals shipped" in Command(root, "sync", f"tracking.uri={server.uri}").succeed().output
        assert_whole(root, here)
    finally:
        server.kill()
