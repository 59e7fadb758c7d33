from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from benchmarks import __main__ as bench
from benchmarks import evaluation, rates, training
from benchmarks.bench import Effort
from benchmarks.configs import changed, paper_config
from benchmarks.synthetic import synthetic_store
from pipeline.atomic import write_json
from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.data.store import Store

ROOT = Path(__file__).resolve().parents[2]
TINY = Effort(pairs=1, depths=(8,), compiled=False, seconds=0.05, batches=4, images=12, stored=96)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return synthetic_store(tmp_path_factory.mktemp("bench") / "store", side=8, classes=4, images=96, num_val=16)


def test_the_synthetic_store_is_the_same_each_time_and_repeats_indices_only(tmp_path: Path, store: Store) -> None:
    again = synthetic_store(tmp_path / "again", side=8, classes=4, images=96, num_val=16)
    assert again.manifest == store.manifest
    longer = synthetic_store(tmp_path / "longer", side=8, classes=4, images=96, num_val=16, repeats=3)
    assert len(longer.split_indices("full")[0]) == 3 * 96
    assert len(longer.train()) == 96
    assert [len(part) for part in store.split_indices("holdout")] == [80, 16]


def test_the_recipe_made_in_python_is_the_one_in_conf(store: Store) -> None:
    ours = paper_config(store, Path("/runs"))
    conf = from_dict(compose(ROOT, ["data=cifar10", "recipe=cifar_paper"]))
    augment = replace(conf.recipe.augment, crop=ours.recipe.augment.crop)
    assert ours.recipe == replace(conf.recipe, milestones=[], augment=augment)
    assert ours.trainer == conf.trainer
    assert ours.model == conf.model


def test_training_is_timed_after_its_first_window(tmp_path: Path) -> None:
    entries = [{"event": "begin"}]
    entries += [{"event": "metrics", "step": 1, "time": 500, "values": {"val/loss": 1.0}}]
    entries += [
        {"event": "metrics", "step": step, "time": time, "values": {"train/loss": 1.0}}
        for step, time in ((10, 9_000), (20, 10_000), (25, 11_000))
    ]
    (tmp_path / "journal.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert rates.journal_rate(tmp_path) == 15 / 2


def test_a_store_of_fewer_than_two_batches_is_refused(tmp_path: Path, store: Store) -> None:
    config = changed(paper_config(store, tmp_path), recipe={"batch_size": 64})
    with pytest.raises(ValueError, match="too few images"):
        rates.lasting(config, store, torch.device("cpu"), 1.0)


def test_the_command_measures_each_row_and_writes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "QUICK", TINY)
    monkeypatch.setattr(training, "section", partial(training.section, batch_size=8))
    monkeypatch.setattr(evaluation, "section", partial(evaluation.section, depth=8, batch_size=8))
    assert bench.main(["training", "evaluation", "--quick", "--data", str(store.path)]) == 0
    found = json.loads((tmp_path / "metrics" / "bench.json").read_text())
    assert [(row["name"], row["unit"], row["bar"]) for row in found] == [
        ("training step rate, ResNet-8, 8x8, batch 8", "steps/s", 0.95),
        ("training step rate, ResNet-8, against torchvision, PIL and fp32", "steps/s", 2.4),
        ("augmentation and batching alone, against the bare step", "images/s", None),
        ("evaluation, ResNet-8", "images/s", 0.95),
        ("three choices of 10 members from 50, 16 images each", "s", 1.0),
    ]
    keys = {"section", "name", "ours", "reference", "unit", "ratio", "spread", "judged", "bar", "holds"}
    shown = capsys.readouterr().out
    for row in found:
        assert set(row) == keys
        assert row["name"] in shown
        assert row["spread"] == [row["ratio"]] * 2
        assert row["ratio"] == row["ours"] / row["reference"] > 0
        kept = row["ratio"] >= (row["bar"] or 0) if row["judged"] == "ratio >=" else row["ours"] <= row["bar"]
        assert row["holds"] is (None if row["bar"] is None else kept)
    assert not list(tmp_path.glob("runs"))  # everything else was temporary


def test_sections_that_are_not_asked_for_keep_their_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: Store
) -> None:
    monkeypatch.setattr(bench, "QUICK", TINY)
    out = tmp_path / "metrics" / "bench.json"
    write_json(out, [{"section": "training", "name": "earlier"}, {"section": "evaluation", "name": "replaced"}])
    monkeypatch.setattr(evaluation, "section", partial(evaluation.section, depth=8, batch_size=8))
    assert bench.main(["evaluation", "--quick", "--data", str(store.path)]) == 0
    assert [row["name"] for row in json.loads(out.read_text())][:2] == ["earlier", "evaluation, ResNet-8"]


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        bench.main(["nothing"])
    assert "nothing is no section; choose from training" in capsys.readouterr().err


def test_a_missing_store_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--data", str(tmp_path / "nothing")]) == 2
    assert "holds no data store" in capsys.readouterr().err
    assert not (tmp_path / "metrics").exists()
