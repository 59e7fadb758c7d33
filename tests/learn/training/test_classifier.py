"""Counting errors, training metrics, the warm-up's rule."""

from __future__ import annotations

import math
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from imports import ROOT
from nets import make_model
from runs import composed

from pipeline.config import RecipeConfig
from pipeline.evaluation.errors import wrong
from pipeline.learn.models import build_model
from pipeline.learn.training.classifier import Classifier
from pipeline.learn.training.counts import Errors, add_batch
from pipeline.learn.training.divergence import DivergedError, finite

WARM = ("recipe.schedule=multistep", "recipe.warmup_lr=0.01", "recipe.warmup_until_err=0.8", "recipe.warmup_fraction=0")


@cache
def recipe(*overrides: str) -> RecipeConfig:
    return composed(ROOT, "data=digits", "recipe=digits", *overrides).recipe


def classifier(*overrides: str) -> Classifier:
    return Classifier(build_model(make_model(8), 10, 1), recipe(*overrides))


def errors(logits: list[list[float]], labels: list[int]) -> tuple[int, int, int]:
    """Top-1 errors, top-5 errors and images."""
    sums = torch.zeros(4, dtype=torch.float64)
    add_batch(sums, torch.tensor(logits), torch.tensor(labels), torch.tensor(0.0))
    _, wrong1, wrong5, count = sums.tolist()
    return int(wrong1), int(wrong5), int(count)


def test_an_error_is_an_image_whose_class_is_not_among_the_k_best() -> None:
    ranked = [9.0, 8.0, 7.0, 6.0, 5.0, 4.0]
    assert [errors([ranked], [label])[:2] for label in range(6)] == [(0, 0), *[(1, 0)] * 4, (1, 1)]


def test_scores_that_are_no_numbers_are_errors() -> None:
    nan = math.nan
    assert errors([[nan] * 6, [nan, 1.0, 0, 0, 0, 0], [1.0, nan, 0, 0, 0, 0]], [0, 0, 0]) == (3, 2, 3)


def test_ties_are_errors_as_they_are_when_a_run_is_evaluated() -> None:
    assert errors([[0.0] * 10] * 10, list(range(10))) == (10, 10, 10)
    logits = torch.randint(0, 4, (200, 10), generator=torch.Generator().manual_seed(0)).float()
    labels = torch.arange(200) % 10
    expected = [int(wrong(logits.numpy(), labels.numpy(), k).sum()) for k in (1, 5)]
    assert list(errors(logits.tolist(), labels.tolist())[:2]) == expected
    assert 0 < expected[1] < expected[0] < 200


def after(net: Classifier, loss: float, wrong1: float, images: float = 100.0) -> Errors:
    """Counts of a net that has seen so much more, looked at as its training does, on one process."""
    strategy = SimpleNamespace(reduce=lambda sums, reduce_op: sums, all_gather=lambda tensor, *_, **__: tensor)
    loader = SimpleNamespace(images=lambda position: np.arange(position, position + 20))
    net._trainer = SimpleNamespace(strategy=strategy, global_step=7, world_size=1, train_dataloader=loader)  # type: ignore[assignment]
    net._finite.fill_(3)
    net._sums += torch.tensor([loss, wrong1, 0.0, images], dtype=torch.float64)
    net._check()
    return net.counts()


def test_metrics_are_means_over_the_images_since_an_earlier_look() -> None:
    net = classifier()
    first = after(net, loss=250.0, wrong1=40.0)
    assert first.since(Errors()) == {"train/loss": 2.5, "train/err1": 0.4}
    assert after(net, loss=50.0, wrong1=10.0).since(first) == {"train/loss": 0.5, "train/err1": 0.1}
    assert net.counts() == net.counts()


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_no_number_ends_training_with_what_to_do(loss: float) -> None:
    with pytest.raises(
        DivergedError, match=rf"the training loss is {loss} at step 4 .* 3, 4, 5.*; lower recipe\.lr"
    ) as raised:
        after(classifier("recipe.schedule=multistep", "recipe.warmup_fraction=0"), loss=loss, wrong1=0.0)
    assert "(learning rate 0.1, " in str(raised.value) and raised.value.images == list(range(3, 23))
    with pytest.raises(DivergedError, match=r"lower recipe\.warmup_lr \(0\.01\)"):
        after(classifier(*WARM), loss=loss, wrong1=0.0)


def test_one_value_that_is_no_number_is_noticed_and_large_ones_are_numbers() -> None:
    tensors = [torch.full((3, 4), 3e38), torch.zeros(0), torch.arange(3), torch.tensor(1.0, dtype=torch.float64)]
    assert finite(tensors) and finite([])
    for bad in (math.nan, -math.inf):
        assert not finite([*tensors, torch.tensor([0.0, bad])])


def test_the_warm_up_ends_when_the_error_since_the_last_look_is_below_the_bound() -> None:
    net = classifier(*WARM)
    assert net.warming and not classifier().warming
    for wrong1, warming in ((90.0, True), (80.0, True), (79.0, False), (95.0, False)):
        after(net, 1.0, wrong1)
        assert net.warming is warming


def test_a_validation_is_the_mean_over_all_images_of_batches_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    net = classifier().eval()
    monkeypatch.setattr(net, "log_dict", lambda *_, **__: None)  # Lightning's, which needs its trainer
    images = torch.randn(7, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(7)
    net._trainer = SimpleNamespace(strategy=SimpleNamespace(reduce=lambda sums, reduce_op: sums))  # type: ignore[assignment]
    results = []
    for sizes in ((7,), (5, 2), (4, 0, 3)):
        net.on_validation_epoch_start()
        with torch.no_grad():
            for batch in zip(images.split(sizes), labels.split(sizes), strict=True):
                net.validation_step(batch, 0)
        net.on_validation_epoch_end()
        results.append(list(net.val_metrics.values()))
    assert list(net.val_metrics) == ["val/loss", "val/err1", "val/err5"]
    np.testing.assert_allclose(results, [results[0]] * 3, rtol=1e-6)
