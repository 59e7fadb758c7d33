from __future__ import annotations

import json
from pathlib import Path

import mlflow
import numpy as np
import pytest
from tiny_world import World, choose, file_names, val_probabilities

from pipeline.atomic import read_json
from pipeline.ensemble import build
from pipeline.ensemble.build import build_ensemble, read_ensemble
from pipeline.ensemble.forward import fitted_temperature, tempered
from pipeline.ensemble.predictions import validation_images
from pipeline.ensemble.register import ensemble_key
from pipeline.evaluation.errors import top_k_error
from pipeline.tracking import registry
from pipeline.tracking.location import client


def make(world: World, selection: str = "best_per_depth", size: int = 6):
    return build_ensemble(world.source, choose(selection, size), world.root / "ensemble", {"pipeline.host": "here"})


@pytest.fixture
def unregistered(monkeypatch):
    """Skips the registration, which takes a second or two."""
    monkeypatch.setattr(build, "register", lambda _, run_id, *__: {"name": "none", "version": 0, "run_id": run_id})


def versions(world: World):
    return client(world.location).search_model_versions("name = 'resnet-ensemble-tiny'")


def test_temperatures_are_fitted_to_the_validation_images(world, unregistered):
    world.add_run(0.2, depth=14), world.add_run(0.3, depth=8)
    plain = make(world)
    assert {member.temperature for member in plain.members} == {1.0}
    config = choose("best_per_depth", temperature="validation")
    ensemble = build_ensemble(world.source, config, world.root / "ensemble", {})
    labels, probabilities = validation_images(world.store).labels, val_probabilities(world, ensemble)
    temperatures = [member.temperature for member in ensemble.members]
    assert temperatures == [fitted_temperature(p, labels) for p in probabilities] and 1.0 not in temperatures
    mean = np.mean([tempered(p, t) for p, t in zip(probabilities, temperatures, strict=True)], axis=0)
    assert ensemble.val_err1 == (mean.argmax(1) != labels).mean()
    assert ensemble_key(ensemble.members) != ensemble_key(plain.members)


def test_an_ensemble_of_other_data_or_of_another_version_is_refused_in_a_sentence(world, unregistered):
    world.add_run(0.2)
    make(world)
    with pytest.raises(ValueError, match="run `pipeline ensemble`"):
        read_ensemble(world.root / "ensemble", "0" * 64)
    with pytest.raises(FileNotFoundError, match="is missing; `pipeline ensemble`"):
        read_ensemble(world.root / "nothing", "0" * 64)
    path = world.root / "ensemble" / "members.json"
    values = read_json(path)
    del values["val_err1_by_size"]
    path.write_text(json.dumps(values))
    with pytest.raises(ValueError, match=r"written by another version .* run `pipeline ensemble`"):
        read_ensemble(path.parent, world.store.manifest.content_hash)


def test_publishes_members_weights_and_probabilities(world):
    deep, shallow = world.add_run(0.2, depth=14), world.add_run(0.3, depth=8)
    world.add_run(0.4, depth=8, seed=1)  # a worse run of a depth that is there already
    plain = world.add_run(0.5, depth=8, residual=False)
    ensemble = make(world)
    assert not Path("mlflow.db").exists()  # where MLflow tracks by default
    assert [member.key for member in ensemble.members] == [deep, shallow, plain]
    assert [member.name for member in ensemble.members] == ["ResNet-14", "ResNet-8", "plain-8"]
    assert [member.weight for member in ensemble.members] == [pytest.approx(1 / 3)] * 3
    assert (ensemble.size, ensemble.wanted) == (3, 6)
    hashes = [member.checkpoint_sha256 for member in ensemble.members]
    assert file_names(world.root / "ensemble") == sorted(
        ["card.md", "members.json", "served.json", *(f"weights/{h}.safetensors" for h in hashes)]
        + [f"val_probabilities/{h}.npy" for h in hashes]
    )
    labels, probabilities = validation_images(world.store).labels, val_probabilities(world, ensemble)
    by_size = [(np.mean(probabilities[:count], axis=0).argmax(1) != labels).mean() for count in (1, 2, 3)]
    assert ensemble.val_err1_by_size == pytest.approx(by_size) and ensemble.val_err1 == ensemble.val_err1_by_size[-1]
    assert read_ensemble(world.root / "ensemble", world.store.manifest.content_hash) == ensemble


def test_the_run_in_mlflow_holds_the_lineage(world, monkeypatch):
    world.add_run(0.2, depth=14)
    world.add_run(0.3)
    now = build.monotonic
    monkeypatch.setattr(build, "monotonic", lambda: now() - 60)  # as if it took a minute to choose members
    ensemble = make(world)
    run = client(world.location).get_run(ensemble.registered["run_id"])
    tags = run.data.tags
    assert (tags["pipeline.kind"], tags["pipeline.split"], tags["pipeline.host"]) == ("ensemble", "holdout", "here")
    assert tags["pipeline.data"] == world.store.manifest.content_hash
    assert json.loads(tags["pipeline.members"]) == [member.run_id for member in ensemble.members]
    assert json.loads(tags["pipeline.member_checkpoints"]) == [m.checkpoint_sha256 for m in ensemble.members]
    assert json.loads(tags["pipeline.member_weights"]) == [0.5, 0.5]
    assert run.data.metrics["val_err1"] == ensemble.val_err1
    assert run.info.status == "FINISHED" and run.outputs.model_outputs
    assert run.info.end_time - run.info.start_time >= 60_000  # ms, from the beginning


def test_the_same_members_make_no_new_run_or_version(world):
    world.add_run(0.2, depth=14)
    world.add_run(0.3)
    first = make(world, "best_per_depth")
    assert ensemble_key(first.members) == ensemble_key(first.members[::-1]) != ensemble_key(first.members[:1])
    text = (world.root / "ensemble" / "members.json").read_text()
    assert make(world, "best_per_depth") == first
    assert (world.root / "ensemble" / "members.json").read_text() == text
    assert make(world, "top_k").registered == first.registered
    assert len(versions(world)) == 1


def test_champion_follows_the_ensemble_made_last(world):
    world.add_run(0.2, depth=14)
    world.add_run(0.3)
    two, one = make(world, size=2).registered, make(world, size=1).registered
    assert (two["version"], one["version"]) == (1, 2) and two["run_id"] != one["run_id"]
    assert make(world, size=2).registered == two
    champion = client(world.location).get_model_version_by_alias("resnet-ensemble-tiny", "champion")
    assert int(champion.version) == 1


def test_an_interrupted_registration_is_completed_by_the_next_call(world, monkeypatch):
    world.add_run(0.2)
    mlflow_client = client(world.location)
    experiment = [mlflow_client.get_experiment_by_name("tiny").experiment_id]
    for step in ("create_logged_model", "log_model_artifacts", "create_model_version"):
        with monkeypatch.context() as broken:
            broken.setattr(mlflow.MlflowClient, step, lambda *_, **__: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                make(world)
        assert not (world.root / "ensemble").exists() and not versions(world)
        assert {run.info.status for run in mlflow_client.search_runs(experiment)} == {"FINISHED"}
    assert make(world).registered["version"] == 1
    (model,) = mlflow_client.search_logged_models(experiment)
    assert model.status == "READY" and len(versions(world)) == 1


def test_a_failure_leaves_the_earlier_ensemble(world, unregistered, monkeypatch):
    world.add_run(0.2)
    first = make(world)
    world.add_run(0.1, depth=14)
    monkeypatch.setattr(build, "register", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make(world)
    assert read_ensemble(world.root / "ensemble", first.content_hash) == first
    assert not list(world.root.glob(".*.part"))


def test_greedy_considers_the_best_candidates_and_keeps_the_weights_of_members(world, unregistered, monkeypatch):
    monkeypatch.setattr(build, "POOL", 3)
    keys = [world.add_run(0.1 + seed / 100, seed=seed) for seed in range(4)]
    first = make(world, "greedy", 2)
    assert sum(member.weight for member in first.members) == pytest.approx(1)
    assert len(list((world.root / "ensemble" / "weights").iterdir())) == first.size <= 2
    assert len(list((world.runs / "predictions").iterdir())) == 3
    for key in set(keys) - {member.key for member in first.members}:  # choosing again needs no weights of the others
        (world.runs / key / "best.safetensors").unlink()
    monkeypatch.setattr(registry, "download", lambda *_: 1 / 0)
    assert make(world, "greedy", 2) == first


def test_snapshots_of_the_best_run_that_has_any_are_members_with_their_own_errors(world, unregistered):
    world.add_run(0.05, seed=1)
    key = world.add_run(0.1, seed=2, snapshots=4)
    world.add_run(0.2, seed=3, snapshots=4)
    ensemble = make(world, "snapshots", 3)
    assert [(member.key, member.snapshot, member.steps) for member in ensemble.members] == [
        (key, n, n) for n in (2, 3, 4)
    ]
    assert len({member.checkpoint_sha256 for member in ensemble.members}) == 3
    labels = validation_images(world.store).labels
    for member, probabilities in zip(ensemble.members, val_probabilities(world, ensemble), strict=True):
        assert member.val_err1 == (probabilities.argmax(1) != labels).mean()
        assert member.val_err5 == top_k_error(probabilities, labels, 5)
    for path in (world.runs / key).glob("snapshot-*"):  # MLflow has them too
        path.unlink()
    assert make(world, "snapshots", 3) == ensemble


def test_without_snapshots_the_error_names_a_recipe_that_makes_them(world, unregistered):
    world.add_run(0.1)
    with pytest.raises(ValueError, match="recipe=cifar_snapshots"):
        make(world, "snapshots")


def test_listed_members_join_whatever_images_they_were_trained_on(world, unregistered):
    full, other, chosen = world.add_run(0.0, split="full"), world.add_run(0.9, seed=1), world.add_run(0.1, seed=2)
    config = choose("listed", members=[other, full])
    ensemble = build_ensemble(world.source, config, world.root / "ensemble", {})
    assert [(member.key, member.weight) for member in ensemble.members] == [(other, 0.5), (full, 0.5)]
    assert [member.val_err1 is None for member in ensemble.members] == [False, True]
    assert ensemble.val_err1 is None and ensemble.val_err1_by_size[0] is not None
    run = client(world.location).get_run(ensemble.registered["run_id"])
    assert "val_err1" not in run.data.metrics and run.data.tags["pipeline.split"] == "full and holdout"
    assert read_ensemble(world.root / "ensemble", world.store.manifest.content_hash) == ensemble
    assert [member.key for member in make(world, "top_k", 2).members] == [chosen, other]


def test_no_temperature_is_fitted_to_images_that_a_member_was_trained_on(world, unregistered):
    config = choose("listed", temperature="validation", members=[world.add_run(0.0, split="full")])
    with pytest.raises(ValueError, match="trained on the validation images"):
        build_ensemble(world.source, config, world.root / "ensemble", {})


def test_the_error_about_a_missing_listed_run_names_those_that_exist(world):
    key = world.add_run(0.1)
    with pytest.raises(ValueError, match=rf"no finished run nosuchrun .* there are {key} \(ResNet-8\)"):
        build_ensemble(world.source, choose("listed", members=["nosuchrun"]), world.root / "ensemble", {})
