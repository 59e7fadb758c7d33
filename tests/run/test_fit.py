"""What a training makes: weights, validations, reports, the record; and what it refuses."""

from __future__ import annotations

import os
import platform
import re
import shutil
import signal
from itertools import pairwise
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from imports import ROOT
from processes import Command
from runs import (
    EPOCH,
    TINY,
    Workspaces,
    assert_same_training,
    checkpoint,
    composed,
    events,
    metrics,
    metrics_in,
    run_folder,
    tracked,
    train,
)

from pipeline.atomic import read_json, sha256, write_json
from pipeline.cli import INTERRUPTED, USER_ERROR
from pipeline.data.boxes import Boxes, BoxTable
from pipeline.learn.training import module
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.divergence import DivergedError
from pipeline.learn.training.schedule import lr_at
from pipeline.run import LAST, RUN
from pipeline.run.fit import decoders, fit
from pipeline.run.recorder import Validated
from pipeline.run.run import identify
from pipeline.run.stop import GracefulStop
from pipeline.run.weights import BEST, load_weights
from pipeline.tracking.journal import NAME as JOURNAL
from pipeline.tracking.journal import Journal, read
from pipeline.tracking.location import KEY_TAG, KIND_TAG, SEARCH
from pipeline.tracking.replay import replay


def test_the_last_step_is_validated_though_its_epoch_is_not_due(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    assert train(root, "trainer.val_every_epochs=5").step == 50
    assert list(metrics(root, "val/err1")) == [50]
    ends = [checkpoint(each)["state_dict"]["model.fc.bias"] for each in (root, reference)]
    assert torch.equal(*ends)


def test_each_epoch_is_validated_and_the_best_weights_are_those_of_the_lowest_error(reference: Path) -> None:
    errors = metrics(reference, "val/err1")
    assert list(errors) == [EPOCH, 2 * EPOCH, 50]  # the last step too, though its epoch is not over
    _, net = load_weights(run_folder(reference) / "best.safetensors")
    published = read_json(reference / "experiments" / "digits" / "train.json")
    assert net.val_err1 == published["val_err1"] == min(errors.values())
    assert errors[published["step"]] == min(errors.values())
    assert net.model.depth == 8 and net.in_channels == 1


def test_the_full_split_trains_on_every_image_without_validation_and_keeps_the_last_weights(
    workspace: Workspaces,
) -> None:
    root = workspace()
    result = train(root, "data.split=full")
    assert (result.val_err1, result.val_err5, result.step) == (None, None, 50)
    assert not metrics(root, "val/err1")
    state, net = load_weights(run_folder(root) / "best.safetensors")
    last = checkpoint(root)["state_dict"]
    assert all(torch.equal(tensor, last[f"model.{name}"]) for name, tensor in state.items())
    assert net.split == "full" and net.seen == (net.data,)


def test_bf16_trains_beside_fp32(workspace: Workspaces, reference: Path) -> None:
    root = workspace()
    result = train(root, "recipe.precision=bf16")
    assert result.recipe and result.recipe.precision == "bf16" and result.val_err1 is not None and result.val_err1 < 0.4
    assert run_folder(root).name != run_folder(reference).name
    assert all(t.dtype == torch.float32 for t in checkpoint(root)["state_dict"].values() if t.is_floating_point())
    assert metrics(root, "train/loss") != metrics(reference, "train/loss")


def test_a_diverged_training_ends_at_the_next_check_with_one_sentence_and_a_failed_run(workspace: Workspaces) -> None:
    root = workspace()
    checks = ("recipe.check_every_steps=10", "trainer.log_every_steps=3")  # logging decides nothing
    command = Command(root, "train", *TINY, "recipe.lr=1e6", *checks)
    assert command.wait() == USER_ERROR
    sentence = command.output.strip().splitlines()[-1]
    assert re.match(
        r"pipeline train: the training loss is \S+ at step [2-9] \(learning rate \S+, training images \d+, .*\); "
        r"lower recipe\.lr \(1e\+06\)",
        sentence,
    )
    assert "Traceback" not in command.output
    (run,) = tracked(root)
    assert run.status == "FAILED" and run.tags["pipeline.last_error"].startswith("DivergedError")
    run_json = read_json(run_folder(root) / "run.json")
    assert (run_json["status"], run_json["step"]) == ("failed", 9)  # the tenth step is not whole


def test_a_training_that_diverges_keeps_its_last_good_checkpoint(
    workspace: Workspaces, reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, overrides = workspace(), ("recipe.check_every_steps=50", "trainer.checkpoint_every_steps=10")
    expected = workspace()
    train(expected, *overrides)
    sentences = []
    with monkeypatch.context() as patch:
        patch.setattr(module, "lr_at", lambda step, *_: 1e30 if step >= 30 else lr_at(step, *_))
        for _ in range(2):
            with pytest.raises(DivergedError, match="learning rate 1e\\+30") as raised:
                train(root, *overrides)
            sentences.append(str(raised.value))
            assert checkpoint(root)["global_step"] == 30
    assert sentences[0] == sentences[1]
    assert read_json(run_folder(root) / "run.json")["images"] == raised.value.images
    assert train(root, *overrides).complete
    assert_same_training(root, expected)


def test_weights_that_are_no_numbers_are_never_saved(workspace: Workspaces, monkeypatch: pytest.MonkeyPatch) -> None:
    root = workspace()

    def poisoned(self: GracefulStop, trainer: pl.Trainer, module: Classifier) -> None:
        with torch.no_grad():
            module.model.fc.bias[3] = float("inf")

    monkeypatch.setattr(GracefulStop, "on_validation_start", poisoned)
    with pytest.raises(DivergedError, match=f"weights or the optimiser's state are not finite at step {EPOCH}"):
        train(root)
    assert not {path.name for path in run_folder(root).iterdir()} & {LAST, BEST}


def test_curves_have_a_section_in_mlflow_and_single_values_none(reference: Path) -> None:
    # MLflow draws sections by name, then what has none, then the system's.
    measured = metrics_in(run_folder(reference))
    single = {name for name, points in measured.items() if len(points) == 1 and not name.startswith("system/")}
    assert single == {name for name in measured if "/" not in name}
    assert single == {"best_val_err1", "best_val_err5", "best_step", "seconds", "images_per_s"}
    assert {"train/loss", "train/err1", "train/lr", "val/loss", "val/err1"} <= set(measured)


def test_every_validation_is_reported_once_its_checkpoint_is_on_disk(workspace: Workspaces, reference: Path) -> None:
    root, reports, records = workspace(), [], []

    def report(validated: Validated) -> None:
        records.append(read_json(run_folder(root) / "run.json"))
        assert checkpoint(root)["global_step"] == validated.step
        assert load_weights(run_folder(root) / "best.safetensors")[1].step == validated.best["step"]
        reports.append(validated)

    train(root, report=report)
    assert [validated.step for validated in reports] == [EPOCH, 2 * EPOCH, 50]
    errors = metrics(reference, "val/err1")
    assert [validated.metrics["val/err1"] for validated in reports] == list(errors.values())
    assert all(two.best["val/err1"] <= one.best["val/err1"] for one, two in pairwise(reports))
    assert [(record["status"], record["step"]) for record in records] == [
        ("running", step) for step in (EPOCH, 2 * EPOCH, 50)
    ]
    assert 0 < records[0]["seconds"] < records[1]["seconds"] < records[2]["seconds"]


def test_threads_and_layout_decide_nothing_but_speed(workspace: Workspaces) -> None:
    one, two, short = workspace(), workspace(), ("recipe.max_steps=20", "recipe.precision=fp32", "recipe.lr=0.01")
    expected = train(one, *short, "trainer.threads=1")
    result = train(two, *short, "trainer.threads=2", "trainer.channels_last=false", "ensemble.size=2")
    assert (expected.processors, result.processors) == (("1 thread",), ("2 threads",))
    assert result.key == expected.key
    weights, others = (checkpoint(root)["state_dict"] for root in (one, two))
    for name, tensor in weights.items():
        torch.testing.assert_close(others[name], tensor, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="generated code needs g++")
@pytest.mark.parametrize("ranks", [1, 2])
def test_a_compiled_net_learns_the_same_and_goes_on_uncompiled(workspace: Workspaces, ranks: int) -> None:
    # In bf16 the compiled net rounds less often than the other: rounding of its own, but not as small as fp32's.
    root, reference, fp32 = workspace(), workspace(), "recipe.precision=fp32"
    train(reference, fp32)
    overrides = (fp32, "trainer.compile=true", f"trainer.devices={ranks}")
    command = Command(root, "train", *TINY, *overrides).at_step(EPOCH + 1)
    command.signal(signal.SIGTERM)
    assert command.wait() == INTERRUPTED, command.output
    train(root, fp32)
    assert run_folder(root).name == run_folder(reference).name
    losses, expected = metrics(root, "train/loss"), metrics(reference, "train/loss")
    assert losses.keys() == expected.keys()
    # Rounding grows from step to step, wherever it carries an activation over ReLU's edge.
    early = [step for step in expected if step <= 10]
    assert [losses[step] for step in early] == pytest.approx([expected[step] for step in early], rel=1e-4)
    assert losses == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("trainer.compile=true", r"needs a C\+\+ compiler and no-such-compiler was not found"),
        ("recipe.batch_size=2000", "is larger than the 550 training images"),
        pytest.param(
            "trainer.accelerator=gpu",
            "but torch finds no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without GPU"),
        ),
    ],
)
def test_what_this_machine_or_these_data_cannot_do_is_refused(
    override: str, sentence: str, workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ValueError, match=f"{override}.* {sentence}"):
        train(workspace(), override)


def test_a_run_names_the_machine_that_trained_it(workspace: Workspaces) -> None:
    root = workspace()
    train(root, "recipe.max_steps=2")
    tags = events(root)[0]["tags"]
    assert tags["pipeline.host"] == platform.node() and tags["pipeline.hardware"].endswith("cores")


def test_a_finished_run_that_chose_values_for_others_becomes_a_candidate_where_it_is_a_training_of_its_own(
    workspace: Workspaces,
) -> None:
    root = workspace()
    config, store = composed(root, *TINY), root / "data/store/digits"
    run = identify(config, store, track=False)
    Journal(run.folder).begin(run.name, "digits", {}, {KEY_TAG: run.key, KIND_TAG: SEARCH})
    write_json(run.folder / RUN, {"status": "finished", "net": run.net.to_json()})
    (run.folder / BEST).touch()
    for tags, kind in (({KIND_TAG: SEARCH}, SEARCH), ({}, "train"), ({KIND_TAG: SEARCH}, "train")):
        assert fit(config, store, tags=tags, track=False).key == run.key
        assert replay(read(run.folder / JOURNAL)[0], run.folder).tags[KIND_TAG] == kind


def test_images_with_boxes_in_place_of_labels_are_refused(workspace: Workspaces) -> None:
    root = workspace()
    store = root / "data" / "store" / "digits"
    manifest = read_json(store / "manifest.json", "")
    boxes = Boxes.make((8, 8), [((1, 1, 5, 5), 3, False)])
    for split, count in manifest["counts"].items():
        BoxTable.write(store, split, [boxes] * count)
    for path in store.glob("*_box*.npy"):
        manifest["files"][path.name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
    write_json(store / "manifest.json", manifest)
    for verb, space in (("train", []), ("sweep", ["sweep.space={model.depth:[8]}"])):
        command = Command(root, verb, *TINY, *space)
        assert command.wait() == USER_ERROR
        assert "digits has boxes of objects, and ResNet-8 learns one label an image" in command.output


@pytest.mark.parametrize(
    ("overrides", "threads"),
    [
        ([], 12),
        (["trainer.devices=4"], 3),
        (["trainer.devices=16"], 1),
        (["trainer.devices=4", "trainer.launcher=slurm"], 12),
        (["trainer.devices=4", "data.workers=5"], 5),
    ],
)
def test_the_ranks_of_a_machine_share_the_cores_that_they_may_use_to_decode_images(
    overrides: list[str], threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(12), raising=False)
    assert decoders(composed(ROOT, "recipe.batch_size=128", *overrides)) == threads
