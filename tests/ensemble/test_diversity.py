from __future__ import annotations

import numpy as np
import pytest
from runs import a_net
from tiny_world import choose

from pipeline.config import AugmentConfig, ModelConfig, RecipeConfig
from pipeline.ensemble import build
from pipeline.ensemble.build import build_ensemble
from pipeline.ensemble.diversity import seeds_against_depths
from pipeline.ensemble.judge import judge
from pipeline.ensemble.predictions import all_images, probabilities
from pipeline.evaluation.intervals import wilson
from pipeline.run.weights import BEST

LABELS = np.zeros(4, dtype=np.int64)


def net(depth: int, seed: int, val_err1: float | None, sure=(0.9, 0.9, 0.9, 0.9), residual=True, lr=0.1, **facts):
    """A net, and its probability of the true class of each of four images."""
    model = ModelConfig(depth=depth, residual=residual, shortcut="A")
    recipe = RecipeConfig(lr=lr, augment=AugmentConfig(crop=32))
    values = {"model": model, "recipe": recipe, "seed": seed, "steps": 100, "val_err1": val_err1}
    values["checkpoint_sha256"] = f"{depth}-{seed}-{val_err1}"
    return a_net(**values | facts), np.array([[p, 1 - p] for p in sure], dtype=np.float32)


def chosen(nets):
    told = seeds_against_depths(nets, LABELS)
    return (told[0]["net"], [told[-1][side]["models"] for side in ("seeds", "depths")]) if told else None


def test_averages_of_the_best_seeds_stand_beside_averages_of_the_best_net_of_each_depth():
    nets = [
        net(20, 0, 0.2, sure=(0.9, 0.9, 0.4, 0.1)),
        net(20, 1, 0.1, sure=(0.9, 0.4, 0.9, 0.1)),
        net(32, 0, 0.3, sure=(0.4, 0.9, 0.9, 0.9)),
    ]
    one, two = seeds_against_depths(nets, LABELS)
    assert (one["size"], one["net"]) == (1, "ResNet-20") and one["seeds"] == one["depths"]
    assert one["seeds"] == {"models": ["ResNet-20"], "alone": 0.5, "test_err1": 0.5, "ci95": list(wilson(2, 4))}
    # Of the seeds the second and third image are right together, as 0.65 is above a half, and the last is wrong.
    assert two["seeds"] == {"models": ["ResNet-20"] * 2, "alone": 0.5, "test_err1": 0.25, "ci95": list(wilson(1, 4))}
    assert two["depths"]["models"] == ["ResNet-20", "ResNet-32"]
    assert (two["depths"]["test_err1"], two["depths"]["alone"]) == (0.25, 0.375)


def test_members_weigh_the_same_whatever_they_weigh_in_the_ensemble():
    sure = ((0.9, 0.9, 0.4, 0.1), (0.9, 0.4, 0.9, 0.1))
    nets = [net(20, seed, 0.1, sure[seed], weight=seed, temperature=1.0 + 9 * seed) for seed in (0, 1)]
    nets.append(net(32, 0, 0.2))
    assert seeds_against_depths(nets, LABELS)[1]["seeds"]["test_err1"] == 0.25


def test_the_net_with_the_most_seeds_is_taken_and_both_averages_end_with_the_smaller_count():
    several = [net(20, 0, 0.05), *(net(32, seed, 0.1 + seed / 100) for seed in range(4)), net(44, 0, 0.2)]
    assert chosen(several) == ("ResNet-32", [["ResNet-32"] * 3, ["ResNet-20", "ResNet-32", "ResNet-44"]])


def test_the_depths_are_of_the_seeds_kind_and_length():
    seeds = [net(20, 0, 0.1), net(20, 1, 0.1)]
    assert chosen([*seeds, net(32, 0, 0.2)]) == ("ResNet-20", [["ResNet-20"] * 2, ["ResNet-20", "ResNet-32"]])
    assert chosen([*seeds, net(32, 0, 0.2, residual=False)]) is None
    assert chosen([*seeds, net(32, 0, 0.2, steps=200)]) is None
    assert chosen([*seeds, net(32, 0, 0.2, num_train=500)]) is chosen([*seeds, net(32, 0, 0.2, start="w")]) is None


@pytest.mark.parametrize(
    "other",
    [
        net(20, 0, 0.2, lr=0.2),  # the seed of the first again
        net(20, 1, 0.2, lr=0.2),
        net(20, 1, None),  # cannot be chosen: trained on the validation images too
        net(20, 0, 0.1),  # the first again, as the named run
    ],
)
def test_without_two_seeds_nothing_is_said(other):
    assert seeds_against_depths([net(20, 0, 0.1), other, net(32, 0, 0.1)], LABELS) == []


def test_the_published_evaluation_holds_it(world, monkeypatch, tmp_path):
    monkeypatch.setattr(build, "register", lambda *_: {"name": "none", "version": 0, "run_id": "none"})
    for depth, seed, error in ((8, 0, 0.1), (8, 1, 0.2), (14, 0, 0.3)):
        world.add_run(error, depth=depth, seed=seed)
    ensemble = build_ensemble(world.source, choose("top_k", 1), world.root / "ensemble", {})
    images = all_images("test", world.store, world.store.test())
    source = world.source
    nets = [(member, world.runs / member.key / BEST) for member in source.finished()]
    (first, *others) = [(net, probabilities(path, images, tmp_path / "kept", source.device)) for net, path in nets]
    result, _ = judge(ensemble, images, [first[1]], first, others)
    assert [net["params"] for net in result["members"]] == [first[0].params]
    rows = result["seeds_against_depths"]
    assert [(row["size"], row["net"]) for row in rows] == [(1, "ResNet-8"), (2, "ResNet-8")]
