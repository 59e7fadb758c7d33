"""The command, and the rows of training and evaluation, at their smallest."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from imports import ROOT

from benchmarks import __main__ as command
from benchmarks import detection, evaluation, gpu, rates, training
from benchmarks.harness import Bench, Effort
from benchmarks.synthetic import changed, paper_config, synthetic_store
from pipeline.atomic import write_json
from pipeline.data.store import Store
from pipeline.learn.models import build_model
from pipeline.tracking.journal import line_of

TINY = Effort(pairs=1, depths=(8,), compiled=False, seconds=0.05, batches=4, images=12, stored=96)


def test_the_store_of_noise_is_the_same_each_time_and_repeats_indices_only(tmp_path: Path, tiny_store: Store) -> None:
    again = synthetic_store(tmp_path / "again", side=8, classes=4, images=96, num_val=16)
    assert again.manifest == tiny_store.manifest
    longer = synthetic_store(tmp_path / "longer", side=8, classes=4, images=96, num_val=16, repeats=3)
    assert len(longer.split_indices("full")[0]) == 3 * 96
    assert len(longer.train()) == 96
    assert [len(part) for part in tiny_store.split_indices("holdout")] == [80, 16]


def test_the_recipe_is_the_papers_on_the_stores_images(tiny_store: Store, tmp_path: Path) -> None:
    config = paper_config(tiny_store, tmp_path, depth=56)
    assert (config.recipe.max_steps, config.recipe.lr, config.recipe.batch_size) == (64_000, 0.1, 128)
    assert (config.model.name, config.recipe.augment.crop, config.data.split) == ("ResNet-56", 8, "full")


def test_training_is_timed_after_its_first_window(tmp_path: Path) -> None:
    entries = [{"event": "begin"}, {"event": "metrics", "step": 1, "time": 500, "values": {"val/loss": 1.0}}]
    entries += [
        {"event": "metrics", "step": step, "time": time, "values": {"train/loss": 1.0}}
        for step, time in ((10, 9_000), (20, 10_000), (25, 11_000))
    ]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "journal.jsonl").write_bytes(b"".join(map(line_of, entries)))
    assert rates.journal_rate(tmp_path) == 15 / 2


def test_a_store_of_fewer_than_two_batches_is_refused(tmp_path: Path, tiny_store: Store) -> None:
    config = changed(paper_config(tiny_store, tmp_path), recipe={"batch_size": 64})
    with pytest.raises(ValueError, match="too few images"):
        rates.lasting(config, tiny_store, torch.device("cpu"), 1.0)


def test_the_command_measures_each_row_and_keeps_those_of_other_sections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training, "step_rates", partial(training.step_rates, batch_size=8))
    monkeypatch.setattr(evaluation, "section", partial(evaluation.section, depth=8, batch_size=8))
    out = tmp_path / "metrics" / "bench.json"
    write_json(out, [{"section": "growth", "name": "earlier"}, {"section": "evaluation", "name": "replaced"}])
    assert command.main(["training", "evaluation", "--data", str(tiny_store.path)], TINY) == 0
    *rows, earlier = json.loads(out.read_text())
    assert earlier["name"] == "earlier"
    assert [(row["name"], row["unit"], row["bar"]) for row in rows] == [
        ("training step rate, ResNet-8, 8x8, batch 8", "steps/s", 0.95),
        ("training step rate, ResNet-8, against torchvision, PIL and fp32", "steps/s", 2.4),
        ("augmentation and batching alone, against the bare step", "images/s", None),
        ("evaluation, ResNet-8", "images/s", 0.95),
        ("three choices of 10 members from 50, 16 images each", "s", 1.0),
    ]
    printed = capsys.readouterr().out
    for row in rows:
        assert row["name"] in printed
        assert row["spread"] == [row["ratio"]] * 2
        assert row["ratio"] == row["ours"] / row["reference"] > 0
        kept = row["ratio"] >= (row["bar"] or 0) if row["judged"] == "ratio >=" else row["ours"] <= row["bar"]
        assert row["holds"] is (None if row["bar"] is None else kept)
    assert not list(tmp_path.glob("runs"))  # everything else was temporary


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["--data", "nothing"], "holds no data store"), (["gpu", "--data", "{store}"], "needs a CUDA device")],
)
@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_what_cannot_be_measured_is_refused(
    arguments: list[str], sentence: str, tmp_path: Path, tiny_store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main([argument.format(store=tiny_store.path) for argument in arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "metrics").exists()


def test_an_unknown_section_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(["nothing"])
    assert "nothing is no section; choose from training" in capsys.readouterr().err


def test_the_loop_costs_microseconds_by_steps_a_call(bench: Callable[..., Bench]) -> None:
    rows = training.loop_cost(bench())
    assert [(row.unit, row.bar) for row in rows] == [("us", None)] * 2
    assert ["1 a call" in rows[0].name, "25 a call" in rows[1].name] == [True, True]
    assert all(row.ours > 0 < row.reference for row in rows)
    assert rates.build_model is build_model  # the net of nothing is gone


def test_steps_of_a_detector_are_timed_against_a_loop_of_the_same_net(bench: Callable[..., Bench]) -> None:
    (row,) = detection.section(bench(), backbone="resnet8", side=64, batch_size=2)
    assert row.name == "training step rate, ResNet-8 Faster R-CNN, 64x64, batch 2"
    assert (row.unit, row.bar, row.judged) == ("steps/s", 0.9, "ratio >=")
    assert row.ours > 0 < row.reference


@pytest.mark.slow
def test_ranks_and_threads_are_timed_over_the_same_steps(tmp_path: Path, bench: Callable[..., Bench]) -> None:
    store = synthetic_store(tmp_path / "store", classes=10, images=160, num_val=20)
    (row,) = training.ranks(bench(store), depth=8, batch_size=8, steps=10)
    assert row.name == "two one-thread ranks against two threads, ResNet-8, batch 8"
    assert row.ours > 0 and row.reference > 0
    assert (row.bar, row.judged) == (0.7, "ratio >=")


@pytest.mark.slow
def test_the_rows_of_a_gpu_can_be_run(bench: Callable[..., Bench]) -> None:
    """On a CPU, plain steps stand in for recorded ones."""
    small = gpu.resnet20_rows(bench(), depth=8, images=100, batch_size=10, steps=20)
    large = gpu.resnet50_rows(bench(), depth=18, side=32, images=16, batch_size=2, steps=10)
    plain = [row for row in (*small, *large) if "compiled" not in row.name]
    assert [row.bar for row in plain] == [0.95, 0.9, 0.95]
    assert all(row.ours() > 0 and row.reference() > 0 for row in plain)


def test_the_wheel_holds_no_benchmarks() -> None:
    assert '[tool.setuptools.packages.find]\ninclude = ["pipeline*"]' in (ROOT / "pyproject.toml").read_text()
