from __future__ import annotations

import numpy as np
import pytest
from runs import a_net

from pipeline.config import AugmentConfig, ModelConfig, RecipeConfig
from pipeline.ensemble.build import Ensemble
from pipeline.ensemble.judge import against_best, compared, errors_by_class, errors_of, seeds_against_depths, to_track
from pipeline.evaluation.intervals import wilson

LABELS = np.array([0, 1, 2, 2])
RIGHT, HALF = np.eye(4)[LABELS], np.eye(4)[[0, 1, 0, 1]]


def test_the_best_member_is_chosen_by_validation_not_by_test():
    members = [a_net(run_id="better on test", val_err1=0.2), a_net(run_id="chosen", val_err1=0.1)]
    against = [compared(RIGHT, pair, LABELS) for pair in zip(members, (RIGHT, HALF), strict=True)]
    assert [each["difference"]["estimate"] for each in against] == [0.0, -0.5]
    assert [each["run_id"] for each in against] == ["better on test", "chosen"]
    result = against_best(members, against)
    difference = result["difference_to_best_member"]
    assert difference["run_id"] == "chosen" and difference["estimate"] == -0.5
    assert result["mcnemar_p"] == 0.5  # two images, both won
    assert result["difference_to_best_member5"]["estimate"] == 0.0  # there are four classes


def test_without_the_validation_error_of_each_member_none_is_the_best():
    members = [a_net(run_id="first", val_err1=0.3), a_net(run_id="second")]
    against = [compared(RIGHT, (net, HALF), LABELS) for net in members]
    assert set(against_best(members, against).values()) == {None}
    alone = against_best(members[1:], against[1:])  # nothing to choose from
    assert alone["difference_to_best_member"]["run_id"] == "second"


def test_top_5_errors_have_an_interval_of_their_own():
    labels, p = np.zeros(50, int), np.tile(np.arange(6.0), (50, 1))
    p[:40, 0] = 9.0  # ten images have their class ranked last of six
    errors = errors_of(p, labels)
    assert (errors["test_err1"], errors["test_err5"]) == (0.2, 0.2)
    p[40:45, 0] = 4.5
    errors = errors_of(p, labels)
    assert (errors["test_err1"], errors["test_err5"]) == (0.2, 0.1)
    assert errors["ci95"] == list(wilson(10, 50)) and errors["ci95_err5"] == list(wilson(5, 50))


def test_classes_without_test_images_have_no_error():
    assert errors_by_class(HALF, LABELS, "abcd") == [
        {"class": "a", "test_err1": 0.0, "count": 1},
        {"class": "b", "test_err1": 0.0, "count": 1},
        {"class": "c", "test_err1": 1.0, "count": 2},
        {"class": "d", "test_err1": None, "count": 0},
    ]


def test_mlflow_gets_the_error_of_a_runs_best_weights_and_none_of_its_snapshots():
    def row(error: float, **facts):
        return {**a_net(steps=90, **facts).to_json(), "test_err1": error, "test_err5": error / 4}

    about = {"wanted": 2, "data": "tiny", "content_hash": "hash", "val_err1": 0.3, "val_err1_by_size": [0.4, 0.3]}
    snapshots = [a_net(key="run", snapshot=step, checkpoint_sha256=f"{step}", weight=0.5) for step in (30, 60)]
    ensemble = Ensemble(selection="snapshots", members=snapshots, registered={}, **about)
    members = [row(0.5, key="run", snapshot=30), row(0.4, key="run", snapshot=60)]
    result = {"members": members, "run": None, "others": [], "ensemble": row(0.2)}
    (average,) = to_track(result, ensemble).items()  # the run's best weights were not tested
    assert average[1] == (0, {"test_err1": 0.2, "test_err5": 0.05})
    best = row(0.3, key="run")
    for tested in ({"run": best}, {"others": [best, row(0.6, key="run", snapshot=90)]}):
        assert to_track({**result, **tested}, ensemble)["run"] == (90, {"test_err1": 0.3, "test_err5": 0.075})


ZEROS = np.zeros(4, dtype=np.int64)


def net(depth: int, seed: int, val_err1: float | None, sure=(0.9, 0.9, 0.9, 0.9), residual=True, lr=0.1, **facts):
    """A net, and its probability of the true class of each of four images."""
    model = ModelConfig(depth=depth, residual=residual, shortcut="A")
    recipe = RecipeConfig(lr=lr, augment=AugmentConfig(crop=32))
    values = {"model": model, "recipe": recipe, "seed": seed, "steps": 100, "val_err1": val_err1}
    values["checkpoint_sha256"] = f"{depth}-{seed}-{val_err1}"
    return a_net(**values | facts), np.array([[p, 1 - p] for p in sure], dtype=np.float32)


def chosen(nets):
    rows = seeds_against_depths(nets, ZEROS)
    return (rows[0]["net"], [rows[-1][side]["models"] for side in ("seeds", "depths")]) if rows else None


def test_averages_of_the_best_seeds_stand_beside_averages_of_the_best_net_of_each_depth():
    nets = [  # what they weigh in the ensemble does not matter
        net(20, 0, 0.2, sure=(0.9, 0.9, 0.4, 0.1), weight=0.8, temperature=10.0),
        net(20, 1, 0.1, sure=(0.9, 0.4, 0.9, 0.1)),
        net(32, 0, 0.3, sure=(0.4, 0.9, 0.9, 0.9)),
    ]
    one, two = seeds_against_depths(nets, ZEROS)
    assert (one["size"], one["net"]) == (1, "ResNet-20") and one["seeds"] == one["depths"]
    assert one["seeds"] == {"models": ["ResNet-20"], "alone": 0.5, "test_err1": 0.5, "ci95": list(wilson(2, 4))}
    # Of the seeds the second and third image are right together, as 0.65 is above a half, and the last is wrong.
    assert two["seeds"] == {"models": ["ResNet-20"] * 2, "alone": 0.5, "test_err1": 0.25, "ci95": list(wilson(1, 4))}
    assert two["depths"]["models"] == ["ResNet-20", "ResNet-32"]
    assert (two["depths"]["test_err1"], two["depths"]["alone"]) == (0.25, 0.375)


def test_the_net_with_the_most_seeds_is_taken_and_both_averages_end_with_the_smaller_count():
    several = [net(20, 0, 0.05), *(net(32, seed, 0.1 + seed / 100) for seed in range(4)), net(44, 0, 0.2)]
    assert chosen(several) == ("ResNet-32", [["ResNet-32"] * 3, ["ResNet-20", "ResNet-32", "ResNet-44"]])


def test_the_depths_are_of_the_seeds_kind_and_recipe():
    seeds = [net(20, 0, 0.1), net(20, 1, 0.1)]
    assert chosen([*seeds, net(32, 0, 0.2)]) == ("ResNet-20", [["ResNet-20"] * 2, ["ResNet-20", "ResNet-32"]])
    assert chosen([*seeds, net(32, 0, 0.2, residual=False)]) is None
    assert chosen([*seeds, net(32, 0, 0.2, steps=80)]) is None  # a callback ended it
    patient = RecipeConfig(stop_patience=2, augment=AugmentConfig(crop=32))
    stopped = [
        net(*about, recipe=patient, steps=steps)
        for *about, steps in ((20, 0, 0.1, 80), (20, 1, 0.1, 100), (32, 0, 0.2, 60))
    ]
    assert chosen(stopped) == chosen([*seeds, net(32, 0, 0.2)])
    longer = net(32, 0, 0.2, recipe=RecipeConfig(max_steps=200, augment=AugmentConfig(crop=32)))
    assert chosen([*seeds, longer]) is None
    assert chosen([*seeds, net(32, 0, 0.2, num_train=500)]) is chosen([*seeds, net(32, 0, 0.2, start="w")]) is None
    tuned = [
        net(*about, start="w", started=weights)
        for *about, weights in ((20, 0, 0.1, "a"), (20, 1, 0.1, "a"), (32, 0, 0.2, "b"))
    ]
    assert chosen(tuned) is None  # the weights of one name are others


@pytest.mark.parametrize(
    "other",
    [
        net(20, 0, 0.2, lr=0.2),  # the seed of the first again
        net(20, 1, 0.2, lr=0.2),
        net(20, 1, None),  # cannot be chosen: trained on the validation images too
        net(20, 0, 0.1),  # the first again, as the named run
    ],
)
def test_without_two_seeds_there_is_no_comparison(other):
    assert seeds_against_depths([net(20, 0, 0.1), other, net(32, 0, 0.1)], ZEROS) == []
