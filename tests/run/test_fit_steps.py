"""Several optimiser steps a call by Lightning: nothing but speed may depend on how many."""

from __future__ import annotations

import os
import signal
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from processes import train_on_ranks
from runs import EPOCH, TINY, PowerCut, Workspaces, assert_same_training, checkpoint, composed, events

from pipeline.learn.input.module import ImageData
from pipeline.learn.models import build_model
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.optimisers import optimisers
from pipeline.learn.training.schedule import lr_at
from pipeline.run import Interrupted
from pipeline.run.fit import fit

SEVEN = (*TINY, "trainer.log_every_steps=7")


def train(root: Path, *overrides: str) -> None:
    fit(composed(root, *SEVEN, *overrides), root / "data/store/digits", track=False)


def logged(root: Path) -> list[tuple[int, dict[str, float]]]:
    """Metrics in the journal, those aside that tell the time or count attempts."""
    metrics = [(event["step"], event["values"]) for event in events(root) if event["event"] == "metrics"]
    return [(step, values) for step, values in metrics if not values.keys() & {"seconds", "attempt"}]


@pytest.fixture(scope="module")
def one_by_one(workspace: Workspaces) -> Path:
    root = workspace()
    train(root, "trainer.steps_per_call=1")
    return root


def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Steps at which calls ended, from now on."""
    whole, ends = Classifier.training_step, []

    @wraps(whole)  # Lightning looks at the signature
    def called(self: Classifier, dataloader_iter: Any) -> None:
        whole(self, dataloader_iter)
        ends.append(self.global_step)

    monkeypatch.setattr(Classifier, "training_step", called)
    return ends


@pytest.mark.parametrize(
    ("most", "expected"),
    [
        (100, [7, 14, EPOCH, 21, 28, 2 * EPOCH, 35, 42, 49, 50]),
        (3, [3, 6, 7, 10, 13, 14, EPOCH, 20, 21, 24, 27, 28, 31, 34, 35, 38, 41, 42, 45, 48, 49, 50]),
    ],
)
def test_calls_end_where_something_is_due_and_change_nothing(
    most: int, expected: list[int], workspace: Workspaces, one_by_one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, ends = workspace(), calls(monkeypatch)
    train(root, f"trainer.steps_per_call={most}")
    assert ends == expected
    assert_same_training(root, one_by_one)
    assert logged(root) == logged(one_by_one)


def test_in_bf16_too_each_step_sees_the_weights_of_the_step_before(workspace: Workspaces) -> None:
    """Autocast may keep its copies of the weights for as long as a call takes."""
    one, many = workspace(), workspace()
    for root, most in ((one, 1), (many, 100)):
        train(root, "recipe.precision=bf16", f"trainer.steps_per_call={most}")
    assert_same_training(one, many)
    assert logged(one) == logged(many)


@pytest.mark.parametrize("step", [5, 18])
def test_a_signal_within_a_call_stops_at_its_end_and_training_goes_on_unchanged(
    step: int, workspace: Workspaces, one_by_one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, whole = workspace(), Classifier._advance

    def advance(self: Classifier, *given: Any) -> None:
        whole(self, *given)
        if self.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Classifier, "_advance", advance)
    with pytest.raises(Interrupted, match=f"stopped at step {-(-step // 7) * 7}$"):
        train(root, "trainer.steps_per_call=100")
    monkeypatch.setattr(Classifier, "_advance", whole)
    train(root, "trainer.steps_per_call=4")
    assert_same_training(root, one_by_one)
    assert logged(root) == logged(one_by_one)


@pytest.mark.parametrize("at", [6, pytest.param(EPOCH, marks=pytest.mark.slow), 23])
def test_a_training_cut_off_within_a_call_goes_on_from_its_last_checkpoint(
    at: int, workspace: Workspaces, one_by_one: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, whole = workspace(), Classifier._advance

    def advance(self: Classifier, *given: Any) -> None:
        if self.global_step == at - 1:
            raise PowerCut
        whole(self, *given)

    monkeypatch.setattr(Classifier, "_advance", advance)
    with pytest.raises(PowerCut):
        train(root, "trainer.steps_per_call=100", "trainer.checkpoint_every_steps=5")
    assert checkpoint(root)["global_step"] == {6: 5, EPOCH: 15, 23: 20}[at]
    monkeypatch.setattr(Classifier, "_advance", whole)
    train(root, "trainer.steps_per_call=100", "trainer.checkpoint_every_steps=5")
    assert_same_training(root, one_by_one)
    assert logged(root) == logged(one_by_one)


@pytest.mark.parametrize(
    "change",
    [
        *("recipe.muon_lr=0", "recipe.muon_lr=0.02"),
        "recipe.optimizer=adamw recipe.nesterov=false recipe.lr=0.01 recipe.clip_norm=0.3",
    ],
)
def test_a_training_is_what_a_plain_loop_makes_of_the_same_batches(workspace: Workspaces, change: str) -> None:
    root, short = workspace(), ("recipe.max_steps=20", "seed=3", *change.split())
    train(root, *short, "recipe.precision=fp32", "trainer.steps_per_call=100")
    config = composed(root, *SEVEN, *short)
    recipe = config.recipe
    torch.manual_seed(config.seed)
    net = build_model(config.model, 10, 1).to(memory_format=torch.channels_last)
    store = root / "data/store/digits"
    data = ImageData(store, "holdout", recipe, config.seed, 1)
    both = optimisers(net, recipe)
    loader = data.train_dataloader()
    batches = (batch for _ in range(2) for batch in loader)
    for step, batch in zip(range(20), batches, strict=False):
        for group in (group for optimiser in both for group in optimiser.param_groups):
            group["lr"] = lr_at(step, recipe) * group["share"]
        images, labels = data.on_after_batch_transfer(batch, 0)
        net.zero_grad()
        F.cross_entropy(net(images), labels, label_smoothing=recipe.label_smoothing).backward()
        if recipe.clip_norm:
            assert torch.nn.utils.clip_grad_norm_(net.parameters(), recipe.clip_norm) > recipe.clip_norm
        for optimiser in both:
            optimiser.step()
    weights = checkpoint(root)["state_dict"]
    assert all(torch.equal(tensor, weights[f"model.{name}"]) for name, tensor in net.state_dict().items())


def test_two_ranks_make_the_same_steps_however_many_a_call(workspace: Workspaces) -> None:
    roots = [workspace(), workspace()]
    for root, most in zip(roots, (1, 100), strict=True):
        train_on_ranks(root, *SEVEN, "recipe.max_steps=20", f"trainer.steps_per_call={most}")
    assert_same_training(*roots)
    assert logged(roots[0]) == logged(roots[1])
