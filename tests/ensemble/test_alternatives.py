from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tiny_world import World

from pipeline.config import EvaluationConfig
from pipeline.ensemble.alternatives import alternatives
from pipeline.ensemble.forward import average, fitted_temperature, tempered
from pipeline.ensemble.predictions import evaluation_images, validation_images
from pipeline.evaluation.errors import wrong


@pytest.fixture
def compared(world: World):
    """The ways to choose among all runs of the world, and the test probabilities of its nets by name and seed."""

    def run(size: int = 2, keep=lambda net: net):
        source = world.source
        images = evaluation_images(source.store, EvaluationConfig())
        nets = source.finished()
        folder = world.root / "fetched"
        tested = [(keep(net), source.probabilities(source.fetch(net, folder), images)) for net in nets]
        return alternatives(source, size, tested, images.labels, folder), tested, images.labels

    return run


def test_each_way_chooses_by_validation_and_reports_the_average_on_test_images(world, compared):
    for error, depth, seed in ((0.2, 14, 0), (0.3, 8, 0), (0.25, 8, 1), (0.4, 20, 0)):
        world.add_run(error, depth=depth, seed=seed)
    ways, tested, labels = compared(keep=lambda net: replace(net, temperature=3.0, weight=0.5))
    assert [(way["selection"], way["temperature"]) for way in ways][:2] == [("top_k", "none"), ("top_k", "validation")]
    by = {(way["selection"], way["temperature"]): way for way in ways}
    assert by["top_k", "none"]["members"] == by["best_per_depth", "none"]["members"] == ["ResNet-14", "ResNet-8"]
    assert ("one_net", "none") not in by  # the best net has one seed
    values = {(net.name, net.seed): probabilities for net, probabilities in tested}
    mean = (np.float64(values["ResNet-14", 0]) + values["ResNet-8", 1]) / 2
    assert (
        by["top_k", "none"]["test_err1"] == wrong(mean, labels).mean()
    )  # no temperature is left of an earlier ensemble
    assert all(len(way["ci95_err5"]) == 2 for way in ways)
    images = validation_images(world.store)
    nets = {(net.name, net.seed): world.source.predict(net, images, world.root) for net in world.source.finished()}

    def on_validation(*members: tuple[str, int], calibrated: bool) -> float:
        values = [nets[member] for member in members]
        if calibrated:
            values = [tempered(each, fitted_temperature(each, images.labels)) for each in values]
        return wrong(average(values, [0.5, 0.5]), images.labels).mean()

    plain, best = by["top_k", "none"], (("ResNet-14", 0), ("ResNet-8", 1))
    assert plain["val_err1"] == on_validation(*best, calibrated=False) != plain["test_err1"]
    assert by["top_k", "validation"]["val_err1"] == on_validation(*best, calibrated=True) != plain["val_err1"]
    greedy = by["greedy", "validation"]
    assert greedy["members"] == ["ResNet-14", "ResNet-20"]  # without temperatures ResNet-8 and ResNet-20
    assert greedy["val_err1"] == on_validation(("ResNet-14", 0), ("ResNet-20", 0), calibrated=True)


def test_two_nets_leave_no_choice_and_snapshots_and_nets_without_validation_error_take_no_part(world, compared):
    for error, depth in ((0.2, 14), (0.3, 8)):
        world.add_run(error, depth=depth)
    world.add_run(0.1, depth=20, split="full")
    world.add_run(0.15, seed=3)
    assert compared(keep=lambda net: replace(net, snapshot=50) if net.seed == 3 else net)[0] == []
    assert compared()[0]  # of three nets
