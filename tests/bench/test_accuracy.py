"""The comparison of what both recipes learn, at its smallest."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from imports import ROOT

from pipeline.atomic import read_json
from pipeline.bench import accuracy
from pipeline.bench.synthetic import synthetic_store
from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.data.store import Store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("accuracy") / "store"
    return synthetic_store(folder, side=8, classes=4, images=400, num_val=100)


def test_both_sides_are_trained_and_judged_and_only_once(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "accuracy.json"
    asked = ["--data", str(store.path), "--seeds", "2", "--steps", "3", "--depth", "8", "--out", str(out)]
    assert accuracy.main(asked) == 0
    found = read_json(out)
    trained = [(training["side"], training["seed"]) for training in found["trainings"]]
    assert trained == [("ours", 0), ("common", 0), ("ours", 1), ("common", 1)]
    errors = [training["err1"] for training in found["trainings"]]
    assert all(0 < error < 1 for error in errors)
    assert found["difference"] == pytest.approx((errors[0] + errors[2] - errors[1] - errors[3]) / 2)
    assert "inside the spread" in capsys.readouterr().out
    monkeypatch.setattr(accuracy, "fit", lambda *_: pytest.fail("trained again"))
    assert accuracy.main(asked) == 0
    assert read_json(out)["trainings"] == found["trainings"]


def test_both_sides_follow_cifar_quick(tmp_path: Path, store: Store) -> None:
    ours = accuracy.quick_config(store, tmp_path, 0, 2000, 20).recipe
    conf = from_dict(compose(ROOT, ["data=cifar10", "recipe=cifar_quick"])).recipe
    augment = replace(conf.augment, crop=ours.augment.crop)
    assert ours == replace(conf, max_steps=2000, normalize="channel", augment=augment)


def test_a_missing_store_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert accuracy.main(["--data", str(tmp_path)]) == 2
    assert "holds no data store" in capsys.readouterr().err
