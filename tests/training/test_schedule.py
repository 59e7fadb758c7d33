"""Learning rates at the paper's steps (Sec. 4.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from imports import ROOT

from pipeline.compose import compose
from pipeline.config import RecipeConfig, from_dict
from pipeline.training.schedule import lr_at, side_at


def recipe(*overrides: str) -> RecipeConfig:
    return from_dict(compose(ROOT, list(overrides))).recipe


@pytest.mark.parametrize(
    ("step", "lr"), [(0, 0.1), (31_999, 0.1), (32_000, 0.01), (47_999, 0.01), (48_000, 0.001), (63_999, 0.001)]
)
def test_the_papers_cifar_schedule(step, lr):
    paper = recipe("data=cifar10")
    assert lr_at(step, paper) == pytest.approx(lr)


def test_the_papers_cifar_recipe():
    paper = recipe("data=cifar10")
    assert (paper.batch_size, paper.max_steps, paper.momentum, paper.nesterov) == (128, 64_000, 0.9, False)
    assert (paper.weight_decay, paper.normalize) == (1e-4, "per_pixel_mean")
    assert (paper.augment.padding, paper.augment.flip, paper.augment.crop) == (4, True, 32)


def test_the_warm_up_of_resnet_110_holds_its_rate_as_long_as_it_is_on():
    warm = recipe("data=cifar10", "model.depth=110", "recipe.warmup_lr=0.01")
    assert lr_at(0, warm, warming=True) == lr_at(5_000, warm, warming=True) == 0.01
    assert lr_at(400, warm, warming=False) == 0.1


def test_one_cycle_rises_to_its_peak_and_falls_to_nothing():
    quick = replace(recipe("data=cifar10", "recipe=cifar_quick"), max_steps=1000, lr=0.4, warmup_fraction=0.25)
    rates = [lr_at(step, quick) for step in range(1000)]
    assert rates[0] == pytest.approx(0.4 / 25) and max(rates) == rates[250] == pytest.approx(0.4)
    assert rates[:251] == sorted(rates[:251]) and rates[250:] == sorted(rates[250:], reverse=True)
    assert lr_at(1000, quick) == 0


def test_images_are_small_for_the_first_share_of_the_steps():
    fast = replace(recipe("data=cifar10", "recipe=cifar_fast"), max_steps=100)
    assert [side_at(step, fast) for step in (0, 59, 60, 99)] == [20, 20, 32, 32]
    assert side_at(0, recipe("data=cifar10")) == 32
