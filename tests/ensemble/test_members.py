from __future__ import annotations

import json
import shutil

import pytest
from runs import follow
from tiny_world import file_names

from pipeline.ensemble.members import weights_file
from pipeline.run.key import code_version
from pipeline.run.weights import BEST
from pipeline.tracking import location as tracking
from pipeline.tracking import registry
from pipeline.tracking.location import NET_TAG, Location, client, require_answer


def test_finds_finished_holdout_trainings_of_the_same_images_best_first(world):
    worse, better = world.add_run(0.3, seed=1), world.add_run(0.2, depth=14, seed=2)
    world.add_run(0.1, split="full")
    world.add_run(0.1, data="another content hash")
    world.add_run(0.1, kind="ensemble")
    world.add_run(0.1, status="FAILED")
    world.add_run(0.1, status="")  # still running
    world.add_run(0.1, stopped=True)  # by a sweep's scheduler
    first, second = world.source.candidates()
    assert (first.key, second.key) == (better, worse)
    assert (first.name, first.lr, first.seed, first.split) == ("ResNet-14", 0.1, 2, "holdout")
    assert (first.val_err1, first.steps) == (0.2, 100)
    assert len(first.checkpoint_sha256) == 64 and first.run_id


def test_runs_that_are_not_understood_are_left_out_and_named_in_one_line(world, caplog):
    good, mlflow = world.add_run(0.3), client(world.location)
    entry = mlflow.get_experiment_by_name("tiny").experiment_id
    (run,) = mlflow.search_runs([entry])
    net = json.loads(run.data.tags[NET_TAG])
    odd = [
        *("", "no JSON", "[]", "null", "[" * 100_000),
        *(json.dumps({**net, "model": {**net["model"], "depth": depth}}) for depth in ("deep", None, 9, [8])),
        *(
            json.dumps({**net, **change})
            for change in ({"val_err1": "low"}, {"key": "../up"}, {"checkpoint_sha256": "../x"})
        ),
    ]
    tags = {key: value for key, value in run.data.tags.items() if key != NET_TAG}
    for tag in (None, *odd):
        more = {} if tag is None else {NET_TAG: tag}
        made = mlflow.create_run(entry, tags={**tags, **more}).info.run_id
        mlflow.set_terminated(made)
    assert [net.key for net in world.source.candidates()] == [good]
    (line,) = [record.getMessage() for record in caplog.records]
    assert f"{len(odd) + 1} runs that this version does not understand" in line and made in caplog.text
    keys = {run.info.run_id: good, made: "", "0" * 32: "gone"}
    assert [curve["net"].key for curve in registry.curves(world.location, "tiny", keys)] == [good]


def test_all_pages_are_read_and_runs_of_equal_error_come_by_seed(world, monkeypatch):
    monkeypatch.setattr(tracking, "PAGE", 2)
    keys = {seed: world.add_run(0.2, seed=seed) for seed in (3, 1, 2)}
    best = world.add_run(0.1)
    assert [net.key for net in world.source.candidates()] == [best, keys[1], keys[2], keys[3]]


def test_a_training_that_newer_code_repeated_counts_once(world):
    earlier = world.add_run(0.1, code="earlier")
    only_earlier = world.add_run(0.2, seed=1, code="earlier")
    before_the_record = world.add_run(0.3, seed=2, code="")
    now = world.add_run(0.1, code="now")
    again = world.add_run(0.15, code="now")  # by another key, as with other callbacks
    since = world.add_run(0.35, seed=2, code="now")
    assert [net.key for net in world.source.candidates()] == [now, again, only_earlier, since]
    assert [net.key for net in world.source.finished()] == [now, again, only_earlier, since]
    listed = [earlier, before_the_record]
    assert [net.key for net in world.source.listed(listed)] == listed


def test_of_a_training_that_tried_or_reverted_code_repeated_later_the_one_by_the_present_code_counts(world, caplog):
    now = world.add_run(0.2, code=code_version())
    world.add_run(0.1, code="tried")
    with caplog.at_level("INFO"):
        assert [net.key for net in world.source.candidates()] == [now]
    assert "1 runs of tiny are left out, since another version of the code repeated them" in caplog.text


def test_no_candidate_says_where_it_looked_and_what_to_do(world):
    world.add_run(0.1, split="full")
    with pytest.raises(ValueError) as refused:
        world.source.candidates()
    for part in (world.location.uri, "tiny", world.store.manifest.content_hash[:12], "`pipeline sweep`"):
        assert part in str(refused.value)


def test_a_server_that_does_not_answer_is_one_sentence():
    with pytest.raises(ValueError, match=r"the ensemble needs it, but MLflow at http://127.0.0.1:9 does not answer"):
        require_answer(Location("http://127.0.0.1:9"), "the ensemble needs it")


def test_weights_come_from_the_runs_folder(world, tmp_path, monkeypatch):
    key = world.add_run(0.1)
    monkeypatch.setattr(registry, "download", None)  # not needed
    (net,) = world.source.candidates()
    assert world.source.fetch(net, tmp_path / "out").read_bytes() == (world.runs / key / BEST).read_bytes()


@pytest.mark.parametrize("harm", [shutil.rmtree, lambda folder: (folder / BEST).write_bytes(b"newer weights")])
def test_weights_come_from_mlflow_where_the_folder_is_gone_or_changed(world, tmp_path, harm):
    key = world.add_run(0.1)
    content = (world.runs / key / BEST).read_bytes()
    harm(world.runs / key)
    (net,) = world.source.candidates()
    assert world.source.fetch(net, tmp_path / "out").read_bytes() == content
    assert file_names(tmp_path / "out") == [weights_file(net)]


def test_weights_that_are_not_the_reported_ones_are_refused(world, tmp_path):
    shutil.rmtree(world.runs / world.add_run(0.1))
    for stored in (tmp_path / "mlruns" / "artifacts").rglob(BEST):
        stored.write_bytes(b"damaged")
    (net,) = world.source.candidates()
    with pytest.raises(ValueError, match=f"mlflow runs delete --run-id {net.run_id}"):
        world.source.fetch(net, tmp_path / "out")
    assert file_names(tmp_path / "out") == []


def test_missing_weights_are_an_error_with_a_remedy(world, tmp_path, monkeypatch):
    shutil.rmtree(world.runs / world.add_run(0.1))
    other = world.add_run(0.2, seed=1)
    shutil.rmtree(tmp_path / "mlruns" / "artifacts")
    net, _ = world.source.candidates()
    with pytest.raises(FileNotFoundError, match=f"missing or changed.*runs delete --run-id {net.run_id}") as lost:
        world.source.fetch(net, tmp_path / "out")
    follow(str(lost.value), monkeypatch)
    assert [each.key for each in world.source.candidates()] == [other]
