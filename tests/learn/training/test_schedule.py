"""Learning rates at the paper's steps (Sec. 3.4, 4.2)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from imports import ROOT

from pipeline.compose import compose
from pipeline.config import RecipeConfig, from_dict
from pipeline.learn.training.schedule import Plateau, lr_at, side_at


def recipe(*overrides: str) -> RecipeConfig:
    return from_dict(compose(ROOT, list(overrides))).recipe


def test_the_papers_cifar_recipe():
    paper = recipe("data=cifar10")
    rates = [lr_at(step, paper) for step in (0, 31_999, 32_000, 47_999, 48_000, 63_999)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert (paper.batch_size, paper.max_steps, paper.momentum, paper.nesterov) == (128, 64_000, 0.9, False)
    assert (paper.weight_decay, paper.normalize) == (1e-4, "per_pixel_mean")
    assert (paper.augment.padding, paper.augment.flip, paper.augment.crop) == (4, True, 32)


def test_the_warm_up_of_resnet_110_holds_its_rate_as_long_as_it_is_on():
    warm = recipe("data=cifar10", "model.depth=110", "recipe.warmup_lr=0.01")
    assert lr_at(0, warm, warming=True) == lr_at(5_000, warm, warming=True) == 0.01
    assert lr_at(400, warm, warming=False) == 0.1


def test_cycles_of_a_cosine_start_anew():
    cyclic = recipe("data=cifar10", "recipe=cifar_snapshots")
    length = cyclic.max_steps // 6
    for k in range(6):
        assert lr_at(k * length, cyclic) == pytest.approx(0.2)
        assert lr_at(k * length + length // 2, cyclic) == pytest.approx(0.1)
        assert lr_at((k + 1) * length - 1, cyclic) < 1e-7


def test_one_cycle_rises_to_its_peak_and_falls_to_nothing():
    quick = replace(recipe("data=cifar10", "recipe=cifar_quick"), max_steps=1000, lr=0.4, warmup_fraction=0.25)
    rates = [lr_at(step, quick) for step in range(1000)]
    assert rates[0] == pytest.approx(0.4 / 25) and max(rates) == rates[250] == pytest.approx(0.4)
    assert rates[:251] == sorted(rates[:251]) and rates[250:] == sorted(rates[250:], reverse=True)
    assert lr_at(1000, quick) == 0


def test_the_papers_imagenet_recipe():
    paper = recipe("data=imagenet", "data.path=/images")
    assert (paper.batch_size, paper.max_steps, paper.lr, paper.momentum) == (256, 600_000, 0.1, 0.9)
    assert (paper.weight_decay, paper.nesterov, paper.label_smoothing) == (1e-4, False, 0.0)
    augment = paper.augment
    assert (augment.kind, augment.min_side, augment.max_side, augment.crop) == ("scale_jitter", 256, 480, 224)
    assert augment.flip and augment.pca_std == 0.1
    assert [lr_at(step, paper, drops=drops) for step, drops in ((0, 0), (599_999, 2))] == pytest.approx([0.1, 0.001])


def test_a_plateau_is_a_number_of_validations_without_a_lower_error():
    patient = replace(recipe("data=imagenet", "data.path=/images"), plateau_patience=3, plateau_margin=0.01)
    plateau, drops = Plateau(), []
    #            first  lower  a little lower, which counts for nothing; again; third in a row; one that is lower enough
    for error in (0.90, 0.80, 0.795, 0.792, 0.795, 0.78, 0.78, 0.79, 0.785, 0.6):
        plateau.update(error, patient)
        drops.append(plateau.drops)
    assert drops == [0, 0, 0, 0, 1, 1, 1, 1, 2, 2]
    assert plateau == Plateau(best=0.6, waited=0, drops=2)


def test_a_cosine_rises_to_its_peak_and_falls_to_nothing():
    modern = replace(recipe("data=imagenet", "data.path=/images", "recipe=imagenet_90"), max_steps=100)
    rates = [lr_at(step, replace(modern, warmup_fraction=0.2)) for step in range(101)]
    assert max(rates) == rates[20] == pytest.approx(0.1) and rates[100] == 0
    assert rates[:21] == sorted(rates[:21]) and rates[20:] == sorted(rates[20:], reverse=True)
    assert rates[60] == pytest.approx(0.05)  # half way down
    assert lr_at(0, replace(modern, warmup_fraction=0.0)) == pytest.approx(0.1)


def test_images_are_small_for_the_first_share_of_the_steps():
    fast = replace(recipe("data=cifar10", "recipe=cifar_fast"), max_steps=100)
    assert [side_at(step, fast) for step in (0, 59, 60, 99)] == [20, 20, 32, 32]
    assert side_at(0, recipe("data=cifar10")) == 32
