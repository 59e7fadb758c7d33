"""Schedules that depend on the training itself: warm-up, plateau, cycles; what is logged decides nothing."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from runs import (
    EPOCH,
    PowerCut,
    Workspaces,
    assert_same_training,
    checkpoint,
    cut,
    metrics,
    run_folder,
    same,
    train,
    weights,
)

from pipeline.atomic import read_json, sha256
from pipeline.learn.training.classifier import Classifier
from pipeline.record import from_json
from pipeline.run import Interrupted
from pipeline.run.recorder import Recorder
from pipeline.run.weights import load_stored, load_weights

WARM_UP = (
    "recipe.schedule=multistep",
    "recipe.milestones=[40]",
    "recipe.warmup_fraction=0",
    "recipe.warmup_lr=0.01",
    "recipe.warmup_until_err=0.8",
    "recipe.check_every_steps=2",
    "trainer.log_every_steps=2",
)


def test_logging_checkpoints_and_steps_a_call_change_no_weight(workspace: Workspaces) -> None:
    one, other = workspace(), workspace()
    train(one, *WARM_UP)
    rarely = ("trainer.log_every_steps=7", "trainer.checkpoint_every_steps=3", "trainer.steps_per_call=5")
    train(other, *WARM_UP, *rarely)
    assert run_folder(one).name == run_folder(other).name
    ends = [checkpoint(root) for root in (one, other)]
    for part in ("state_dict", "optimizer_states", "classifier"):
        assert same(ends[0][part], ends[1][part]), f"{part} differs"
    assert weights(one) == weights(other)


def test_the_warm_up_of_resnet_110_ends_by_its_rule_and_survives_a_break(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = workspace(), workspace()
    train(whole, *WARM_UP)
    errors, rates = metrics(whole, "train/err1"), metrics(whole, "train/lr")
    end = min(step for step, error in errors.items() if error < 0.8)
    assert 2 < end < 40, "the rule must bite on the way for this test to show anything"
    assert rates == {
        step: pytest.approx(0.01 if step <= end else 0.1 if step <= 40 else 0.01) for step in range(2, 51, 2)
    }
    start = Classifier.on_train_batch_start
    for stop in (end - 1, end + 1):  # a window is open at each

        def stopping(self: Classifier, batch: object, batch_idx: int, stop: int = stop) -> None:
            start(self, batch, batch_idx)
            if self.global_step == stop - 1:
                os.kill(os.getpid(), signal.SIGTERM)

        monkeypatch.setattr(Classifier, "on_train_batch_start", stopping)
        with pytest.raises(Interrupted):
            train(broken, *WARM_UP)
        assert checkpoint(broken)["classifier"]["warming"] is (stop < end)
    monkeypatch.setattr(Classifier, "on_train_batch_start", start)
    train(broken, *WARM_UP)
    assert_same_training(broken, whole)
    assert metrics(broken, "train/lr") == rates and metrics(broken, "train/err1") == errors


def test_a_warm_up_that_never_ends_causes_a_warning(workspace: Workspaces, capsys: pytest.CaptureFixture[str]) -> None:
    train(workspace(), *WARM_UP, "recipe.warmup_until_err=0.0001", "recipe.max_steps=45")
    assert "stayed at recipe.warmup_lr=0.01 to the end" in capsys.readouterr().err


PLATEAU = (
    "recipe.schedule=plateau",
    "recipe.warmup_fraction=0",
    "recipe.plateau_patience=1",
    "recipe.plateau_margin=0.95",  # after the first validation, none is that much better
    "trainer.val_every_epochs=1",
)


def test_the_rate_falls_at_a_plateau_and_a_break_forgets_none_of_it(
    workspace: Workspaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, broken = workspace(), workspace()
    train(whole, *PLATEAU)
    rates = metrics(whole, "train/lr")
    assert [rates[step] for step in (1, EPOCH, 2 * EPOCH, 2 * EPOCH + 1, 50)] == pytest.approx([0.1] * 3 + [0.01] * 2)
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, "on_train_epoch_end", 2, False)
        train(broken, *PLATEAU)
    assert checkpoint(broken)["classifier"]["plateau"]["drops"] == 1
    train(broken, *PLATEAU)
    assert_same_training(broken, whole)
    assert metrics(broken, "train/lr") == rates


def test_each_cycle_of_the_learning_rate_leaves_its_weights(workspace: Workspaces) -> None:
    root = workspace()
    cyclic = ("recipe.schedule=cosine", "recipe.milestones=[]", "recipe.cycles=2", "recipe.warmup_fraction=0")
    result = train(root, *cyclic)
    first, net = load_weights(run_folder(root) / "snapshot-25.safetensors")
    last, _, taken = load_stored(run_folder(root) / "snapshot-50.safetensors")
    assert taken is not None and taken.resize.shape == (8, 8, 1)
    assert net.step == net.snapshot == 25 and result.steps == 50
    ended = checkpoint(root)["state_dict"]
    assert all(torch.equal(last[name], ended[f"model.{name}"]) for name in last)
    assert not torch.equal(first["fc.weight"], last["fc.weight"])
    digests = tuple((step, sha256(run_folder(root) / f"snapshot-{step}.safetensors")) for step in (25, 50))
    assert from_json(read_json(run_folder(root) / "run.json")["net"]).snapshots == digests
