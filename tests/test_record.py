"""The record of a net: the same on every way from training to the report."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from runs import a_net, save_net

from pipeline.atomic import sha256
from pipeline.config import AugmentConfig, ModelConfig, RecipeConfig
from pipeline.errors import PipelineError
from pipeline.record import Net, from_json, of_newest_code
from pipeline.run.weights import load_weights
from pipeline.tracking.journal import Journal
from pipeline.tracking.location import KEY_TAG, NET_TAG, client, locate
from pipeline.tracking.registry import net_of
from pipeline.tracking.shipper import ship

AUGMENT = AugmentConfig(crop=24, padding=3, flip=False)
VALUES: dict[str, Any] = {
    "str": "a text",
    "int": 7,
    "float": 0.25,
    "bool": False,
    "float | None": 0.5,
    "Share | None": 0.25,
    "int | None": 3,
    "tuple[str, ...]": ("one", "two"),
    "tuple[Share, Share] | None": (0.1, 0.2),
    "tuple[tuple[int, str], ...]": ((5, "five"), (9, "nine")),
    "ModelConfig": ModelConfig(depth=14, residual=False, shortcut="B"),
    "AugmentConfig": AUGMENT,
    "RecipeConfig | None": RecipeConfig(lr=0.03, milestones=[3, 4], max_steps=9, augment=AUGMENT),
}


ERRORS = ("val_err1", "val_err5", "test_err1", "test_err5")


def whole() -> Net:
    """A record no field of which has its default."""
    values = {field.name: VALUES[str(field.type)] for field in dataclasses.fields(Net)}
    for field in dataclasses.fields(Net):
        if field.default is not dataclasses.MISSING and values[field.name] == field.default:
            values[field.name] = not field.default
    return Net(**values)


def test_json_keeps_every_field() -> None:
    net = whole()
    for field in dataclasses.fields(Net):
        assert getattr(net, field.name) != field.default, field.name
    assert from_json(json.loads(json.dumps(net.to_json()))) == net


def test_the_header_of_the_weights_keeps_every_field_but_the_files_own_hash(tmp_path: Path) -> None:
    net, path = whole(), tmp_path / "net.safetensors"
    save_net(torch.nn.Linear(2, 2), path, net)
    assert load_weights(path)[1] == dataclasses.replace(net, checkpoint_sha256=sha256(path))


def test_mlflow_keeps_every_field_and_knows_the_run(tmp_path: Path, mlflow_database: Path) -> None:
    (tmp_path / "mlruns").mkdir()
    (tmp_path / "mlruns" / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    location, journal = locate("", tmp_path / "mlruns"), Journal(tmp_path / "run")
    journal.begin("a run", "tiny", {}, {KEY_TAG: "k", NET_TAG: a_net().to_tag()})
    net = dataclasses.replace(whole(), key="k", checkpoint_sha256="a" * 64, snapshots=((5, "b" * 64),))
    journal.tags({NET_TAG: net.to_tag()})  # the later one counts
    journal.end("FINISHED")
    ship(tmp_path / "run", location)
    mlflow = client(location)
    (run,) = mlflow.search_runs([mlflow.get_experiment_by_name("tiny").experiment_id])
    assert net_of(run) == dataclasses.replace(net, run_id=run.info.run_id)


def test_a_record_of_an_earlier_version_takes_defaults_for_what_it_lacks_and_drops_what_is_no_more() -> None:
    values = a_net().to_json()
    del values["temperature"], values["snapshots"]
    assert from_json({**values, "once": 1}) == a_net()


@pytest.mark.parametrize(
    "change",
    [
        *({"model": model} for model in (None, [], {}, {"depth": "deep"}, {**asdict(a_net().model), "depth": 9})),
        *({"model": {**asdict(a_net().model), "depth": depth}} for depth in ([8], None, float("nan"), 8.0)),
        *({"val_err1": error} for error in ("low", float("nan"), [0.1], True)),
        *({error: value} for error in ERRORS for value in (-1, -1e-9, 7, 1.001)),
        *({interval: ends} for interval in ("ci95", "ci95_err5") for ends in ([-0.1, 0.2], [0.9, 1.1])),
        *({"steps": steps} for steps in (None, 1.5, "many")),
        *({"snapshots": snapshots} for snapshots in ([1], [[1, 2, 3]], 5, [["x", "y"]])),
        *({"recipe": recipe} for recipe in ({"lr": 0.1}, {"augment": None}, 3)),
        {"key": 5},
        {"ci95": [0.1]},
    ],
    ids=str,
)
def test_a_record_with_odd_values_is_refused_in_one_sentence(change: dict[str, Any]) -> None:
    with pytest.raises(PipelineError, match="not the record of a net"):
        from_json({**a_net().to_json(), **change})


def test_errors_of_none_and_of_all_images_are_kept() -> None:
    for value in (0, 0.0, 1, 1.0):
        net = dataclasses.replace(a_net(), **dict.fromkeys(ERRORS, value), ci95=(0, value), ci95_err5=(value, 1.0))
        assert from_json(json.loads(net.to_tag())) == net


def test_seeds_and_rates_share_a_setting_and_recipes_do_not() -> None:
    net = whole()
    assert net.recipe
    same = dataclasses.replace(net, seed=1, recipe=dataclasses.replace(net.recipe, lr=0.5))
    assert same.setting == net.setting
    decided = {"num_train": 500, "start": "net.pth", "started": "c0ffee", "split": "full", "callbacks": "[]"}
    for change in ({key: value} for key, value in {**decided, "sync_batchnorm": True}.items()):
        assert dataclasses.replace(net, **change).setting != net.setting
    assert dataclasses.replace(net, recipe=dataclasses.replace(net.recipe, momentum=0.8)).setting != net.setting


def test_of_a_training_that_several_versions_of_the_code_repeated_the_present_one_counts_else_the_newest():
    recipe = RecipeConfig(augment=AUGMENT)
    newest_first = [a_net(key=code, code=code, recipe=recipe, seed=3) for code in ("tried", "now", "old")]
    assert [net.key for net in of_newest_code(newest_first, "now")] == ["now"]
    assert [net.key for net in of_newest_code(newest_first, "other")] == ["tried"]
    assert [net.key for net in of_newest_code(newest_first)] == ["tried"]


def test_adopted_nets_and_trainings_from_other_weights_of_one_name_repeat_no_other():
    adopted = [a_net(key=code, code=code) for code in ("now", "old")]  # as earlier versions recorded them
    assert of_newest_code(adopted, "now") == adopted
    about = {"recipe": RecipeConfig(augment=AUGMENT), "seed": 3, "start": "net.pth"}
    tuned = [a_net(key=code, code=code, started=f"{code} weights", **about) for code in ("now", "old")]
    assert of_newest_code(tuned, "now") == tuned
    again = [dataclasses.replace(net, started="the same") for net in tuned]
    assert of_newest_code(again, "now") == again[:1]


def test_nets_that_validate_equally_are_ranked_by_what_they_are_not_by_a_hash():
    net = dataclasses.replace(a_net(), val_err1=0.06, val_err5=0.01, seed=0)
    later = dataclasses.replace(net, seed=1, key="0" * 12, checkpoint_sha256="0" * 64)
    better = dataclasses.replace(net, val_err1=0.05, seed=2, key="f" * 12)
    assert sorted([later, net, better], key=lambda one: one.rank) == [better, net, later]
