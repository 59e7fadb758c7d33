from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from pipeline.ensemble.averaging import average
from pipeline.ensemble.selection import best_per_depth, cross_entropy, deepest_twice, greedy, one_net, top_k

NETS = [(20, True), (20, True), (56, True), (20, False), (56, True)]
ERRORS = [0.10, 0.09, 0.08, 0.30, 0.07]


def one_hot(classes, confidence=1.0, num_classes=3):
    """Probabilities that put `confidence` on the given classes and share the rest."""
    rest = (1 - confidence) / (num_classes - 1)
    p = np.full((len(classes), num_classes), rest, dtype=np.float32)
    p[np.arange(len(classes)), classes] = confidence
    return p


def test_top_k_takes_the_lowest_errors_whatever_the_depth():
    assert top_k(ERRORS, 2) == [(2, 0.5), (4, 0.5)]


def test_best_per_depth_takes_one_of_each_net_best_depths_first_and_keeps_plain_apart_from_residual():
    assert best_per_depth(ERRORS, NETS, 6) == [(1, 1 / 3), (3, 1 / 3), (4, 1 / 3)]
    assert best_per_depth(ERRORS, NETS, 2) == [(1, 0.5), (4, 0.5)]


def test_the_deepest_net_joins_twice_and_others_once():
    assert deepest_twice(ERRORS, NETS, 6) == [(i, 1 / 3) for i in (1, 2, 4)]  # the plain net is of another kind
    nets = [(20, True), (32, True), (56, True), (32, True), (56, True)]
    assert deepest_twice(ERRORS, nets, 6) == [(i, 1 / 4) for i in (0, 1, 2, 4)]
    assert deepest_twice(ERRORS, nets, 3) == [(i, 1 / 3) for i in (1, 2, 4)]  # of the others, the best
    assert deepest_twice(ERRORS, NETS, 1) == [(4, 1.0)]
    assert deepest_twice([0.1, 0.2], [(56, False, ""), (56, True, "")], 2) == [(1, 1.0)]


def test_one_net_gives_its_best_runs():
    assert one_net(ERRORS, NETS, 6) == [(2, 0.5), (4, 0.5)]
    assert one_net([0.1, 0.2, 0.05], [(20, True)] * 3, 2) == [(0, 0.5), (2, 0.5)]


def test_an_earlier_candidate_wins_a_tie_and_fewer_than_asked_for_are_all_taken():
    assert top_k([0.1, 0.1, 0.1], 1) == [(0, 1.0)]
    assert best_per_depth([0.1, 0.1], [(20, True)] * 2, 1) == [(0, 1.0)]
    assert top_k([0.2, 0.1], 6) == [(0, 0.5), (1, 0.5)]


@pytest.mark.parametrize("choose", [lambda: top_k([], 6), lambda: top_k([0.1], 0), lambda: greedy([], np.zeros(0), 1)])
def test_no_candidate_or_no_size_is_refused(choose):
    with pytest.raises(ValueError, match="at least one"):
        choose()


def test_greedy_joins_nets_that_err_on_different_images():
    labels = np.array([0, 1, 2])
    misses_the_last = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.6, 0.0, 0.4]], dtype=np.float32)
    misses_the_others = np.array([[0.4, 0.6, 0.0], [0.6, 0.4, 0.0], [0.1, 0.0, 0.9]], dtype=np.float32)
    useless = one_hot([1, 2, 0])
    assert greedy([useless, misses_the_others, misses_the_last], labels, 2) == [(1, 0.5), (2, 0.5)]


def test_greedy_with_replacement_weighs_a_member_twice():
    # The strong net is right but unsure on image 3; the weak one fixes image 3 only at half the strong one's weight.
    labels = np.array([0, 1, 2])
    strong = np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.36, 0.32, 0.32]], dtype=np.float32)
    weak = np.array([[0.01, 0.99, 0.0], [0.99, 0.01, 0.0], [0.0, 0.1, 0.9]], dtype=np.float32)
    assert greedy([strong, weak], labels, 3) == [(0, pytest.approx(2 / 3)), (1, pytest.approx(1 / 3))]


def test_greedy_breaks_equal_errors_by_cross_entropy_then_by_order():
    labels = np.array([0, 1, 2])
    unsure, sure = one_hot(labels, 0.5), one_hot(labels, 0.9)
    assert greedy([unsure, sure], labels, 1) == [(1, 1.0)]
    assert greedy([sure, sure.copy()], labels, 1) == [(0, 1.0)]


def test_greedy_drops_rounds_that_made_it_worse():
    labels = np.array([0, 1, 2])
    perfect, wrong = one_hot(labels), one_hot([1, 2, 0])
    assert greedy([wrong, perfect], labels, 6) == [(1, 1.0)]


def test_greedy_refuses_a_diverged_net():
    with pytest.raises(ValueError, match="diverged"):
        greedy([np.full((3, 3), np.nan)], np.array([0, 1, 2]), 1)


def test_greedy_is_never_worse_on_validation_than_the_best_candidate():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 10, 200)
    nets = [rng.dirichlet(np.ones(10), 200) + np.eye(10)[labels] * rng.uniform(0, 0.4) for _ in range(8)]
    nets = [(p / p.sum(1, keepdims=True)).astype(np.float32) for p in nets]
    chosen = greedy(nets, labels, 6)
    error = (average([nets[i] for i, _ in chosen], [w for _, w in chosen]).argmax(1) != labels).mean()
    assert error <= min((p.argmax(1) != labels).mean() for p in nets)
    assert greedy(nets, labels, 6) == chosen


def plainly_greedy(nets, labels, size):
    """The definition, an image at a time: which candidate makes the average err least, then least surprised."""
    picked, scores = [], []
    for members in range(1, size + 1):
        trials = []
        for p in nets:
            mean = (sum(nets[i].astype(np.float64) for i in picked) + p) / members
            missed = [
                any(row[k] >= row[y] for k in range(len(row)) if k != y) for row, y in zip(mean, labels, strict=True)
            ]
            trials.append((np.mean(missed), -np.mean([np.log(row[y]) for row, y in zip(mean, labels, strict=True)])))
        best = min(range(len(nets)), key=trials.__getitem__)
        picked.append(best)
        scores.append(trials[best])
    kept = picked[: scores.index(min(scores)) + 1]
    return [(i, kept.count(i) / len(kept)) for i in sorted(set(kept))]


@pytest.mark.parametrize("seed", range(5))
def test_greedy_chooses_as_its_definition_says(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 60)
    nets = [rng.dirichlet(np.ones(4), 60) + 0.3 * np.eye(4)[labels] for _ in range(6)]
    nets = [(p / p.sum(1, keepdims=True)).astype(np.float32) for p in nets]
    assert greedy(nets, labels, 5) == plainly_greedy(nets, labels, 5)


def test_average_normalises_weights_and_rows_sum_to_one():
    a, b = one_hot([0, 1]), one_hot([1, 1])
    mean = average([a, b], [3, 1])
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, [[0.75, 0.25, 0], [0, 1, 0]])
    np.testing.assert_allclose(mean.sum(1), 1)
    np.testing.assert_array_equal(average([a, b], [0, 2]), b)


@pytest.mark.parametrize("weights", [[], [1], [1, -1], [0, 0]])
def test_average_refuses_weights_that_mean_nothing(weights):
    with pytest.raises(ValueError, match="weight"):
        average([one_hot([0])] * 2, weights)


def test_cross_entropy_of_an_impossible_truth_is_finite():
    assert 80 < cross_entropy(np.array([0.0])) < 100


def test_selection_needs_numpy_alone():
    code = (
        "import sys, pipeline.ensemble.selection; print(sorted({'torch', 'mlflow', 'safetensors'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
