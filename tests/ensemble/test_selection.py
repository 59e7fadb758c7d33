from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from nets import make_detector, make_model
from runs import a_net

from pipeline.config import AugmentConfig, ModelConfig, RecipeConfig
from pipeline.ensemble.forward import average
from pipeline.ensemble.selection import best_per_depth, cross_entropy, deepest_twice, greedy, one_net, top_k


def candidates(*architectures: str):
    """Nets best first, one a word: the depth, and p for a plain net. The seed is the position."""
    return [
        a_net(
            key=str(at), seed=at, model=ModelConfig(depth=int(word.strip("p")), residual="p" not in word, shortcut="A")
        )
        for at, word in enumerate(architectures)
    ]


@pytest.mark.parametrize(
    ("rule", "architectures", "size", "chosen"),
    [
        (top_k, "56 56 20 20 20p", 2, [0, 1]),
        (top_k, "56 20", 6, [0, 1]),  # fewer than asked for
        (best_per_depth, "56 56 20 20 20p", 6, [0, 2, 4]),  # plain-20 is no ResNet-20
        (best_per_depth, "56 56 20 20 20p", 2, [0, 2]),
        (deepest_twice, "56 56 20 20 20p", 6, [0, 1, 2]),  # the plain net is of another kind
        (deepest_twice, "20 56 32 56 32", 6, [0, 1, 2, 3]),
        (deepest_twice, "20 32 56 56 32", 3, [0, 2, 3]),  # of the others, the best
        (deepest_twice, "20 56", 1, [1]),
        (deepest_twice, "56p 56", 2, [1]),
        (one_net, "56 20 56 20 20", 6, [0, 2]),
        (one_net, "20 20 20", 2, [0, 1]),
    ],
)
def test_rules_choose_among_candidates_that_come_best_first(rule, architectures, size, chosen):
    assert [net.seed for net in rule(candidates(*architectures.split()), size)] == chosen


def of_models(*models: ModelConfig):
    return [a_net(key=str(at), seed=at, model=model) for at, model in enumerate(models)]


@pytest.mark.parametrize(
    ("deep", "shallow", "others"),
    [
        (make_detector("resnet32"), make_detector("resnet20"), [make_detector("plain20"), make_detector("vgg11")]),
        (make_detector("vgg16"), make_detector("vgg11"), [make_detector("vgg11_bn"), make_detector("resnet8")]),
        (make_model(16, family="vgg"), make_model(11, family="vgg"), [make_model(11, family="vgg_bn")]),
    ],
)
def test_the_deepest_net_is_joined_by_other_depths_of_its_kind_in_every_family(deep, shallow, others):
    nets = of_models(*others, shallow, deep, shallow, deep, deep)
    at = len(others)
    assert [net.seed for net in deepest_twice(nets, 6)] == [at, at + 1, at + 3]


def test_detectors_of_two_forms_are_two_kinds():
    pyramid = make_detector("resnet32", "faster_rcnn_fpn")
    nets = of_models(make_detector("resnet20"), pyramid, make_detector("resnet20"))
    assert deepest_twice(nets, 6) == nets[1:2] and best_per_depth(nets, 6) == nets[:2]


def test_seeds_that_stopped_early_are_seeds_of_one_net():
    recipe = RecipeConfig(stop_patience=2, augment=AugmentConfig(crop=32))
    ended = "2 validations without a lower val/err1 than at step 80 (recipe.stop_patience=2)"
    nets = [a_net(key=str(s), seed=s, recipe=recipe, steps=100 + s, ended=ended if s else "") for s in range(3)]
    assert one_net(nets, 6) == nets
    snapshots = [replace(net, steps=at, snapshot=at) for net in nets for at in (50, 100)]
    assert one_net(snapshots, 6) == snapshots[::2] and one_net([nets[0], *snapshots], 6) == nets[:1]


def test_a_run_that_a_callback_ended_is_no_seed_of_the_net():
    nets = [a_net(key=str(seed), seed=seed, steps=100) for seed in range(3)]
    nets[1] = replace(nets[1], steps=60, ended="a callback of trainer.callbacks stopped it")
    assert one_net(nets, 6) == nets[::2]


@pytest.mark.parametrize("rule", [one_net, deepest_twice])
def test_a_seed_that_was_trained_twice_counts_once(rule):
    """Validations more often, for example, make another run of the same net, rate, recipe and seed."""
    nets = [a_net(key="first", seed=0), a_net(key="again", seed=0), a_net(key="second seed", seed=1)]
    assert [net.key for net in rule(nets, 2)] == ["first", "second seed"]
    adopted = [replace(net, seed=None, recipe=None) for net in nets]  # nothing tells whether they repeat each other
    assert [net.key for net in rule(adopted, 2)] == ["first", "again"]


def test_trainings_from_other_weights_of_one_name_repeat_no_seed():
    about = {"seed": 3, "recipe": RecipeConfig(augment=AugmentConfig(crop=32)), "start": "net.pth"}
    nets = [a_net(key=key, started=f"{key} weights", **about) for key in ("first", "other")]
    assert deepest_twice(nets, 6) == nets and one_net(nets, 6) == nets[:1]


def test_the_deepest_net_at_two_rates_is_there_twice_with_one_seed():
    recipe = RecipeConfig(lr=0.2, augment=AugmentConfig(crop=32))
    nets = [a_net(key="first", seed=0), a_net(key="other rate", seed=0, recipe=recipe)]
    assert deepest_twice(nets, 6) == nets


@pytest.mark.parametrize("change", [{"anchor": 8}, {"context": True}])
def test_seeds_of_a_detector_have_its_anchors_and_context(change):
    nets = of_models(make_detector(), make_detector(**change), make_detector())
    assert one_net(nets, 6) == nets[::2]


def one_hot(classes, confidence=1.0, num_classes=3):
    """Probabilities that put `confidence` on the given classes and share the rest."""
    rest = (1 - confidence) / (num_classes - 1)
    p = np.full((len(classes), num_classes), rest, dtype=np.float32)
    p[np.arange(len(classes)), classes] = confidence
    return p


LABELS = np.array([0, 1, 2])


def test_greedy_joins_nets_that_err_on_different_images():
    misses_the_last = np.array([[0.9, 0.1, 0.0], [0.1, 0.9, 0.0], [0.6, 0.0, 0.4]], dtype=np.float32)
    misses_the_others = np.array([[0.4, 0.6, 0.0], [0.6, 0.4, 0.0], [0.1, 0.0, 0.9]], dtype=np.float32)
    useless = one_hot([1, 2, 0])
    assert greedy([useless, misses_the_others, misses_the_last], LABELS, 2) == [(1, 0.5), (2, 0.5)]


def test_greedy_with_replacement_weighs_a_member_twice():
    # The strong net is right but unsure on image 3; the weak one fixes image 3 only at half the strong one's weight.
    strong = np.array([[0.9, 0.05, 0.05], [0.05, 0.9, 0.05], [0.36, 0.32, 0.32]], dtype=np.float32)
    weak = np.array([[0.01, 0.99, 0.0], [0.99, 0.01, 0.0], [0.0, 0.1, 0.9]], dtype=np.float32)
    assert greedy([strong, weak], LABELS, 3) == [(0, pytest.approx(2 / 3)), (1, pytest.approx(1 / 3))]


def test_greedy_breaks_ties_by_cross_entropy_then_by_order_and_drops_rounds_that_made_it_worse():
    unsure, sure, wrong = one_hot(LABELS, 0.5), one_hot(LABELS, 0.9), one_hot([1, 2, 0])
    assert greedy([unsure, sure], LABELS, 1) == [(1, 1.0)]
    assert greedy([sure, sure.copy()], LABELS, 1) == [(0, 1.0)]
    assert greedy([wrong, one_hot(LABELS)], LABELS, 6) == [(1, 1.0)]


def test_greedy_refuses_a_diverged_net():
    with pytest.raises(ValueError, match="diverged"):
        greedy([np.full((3, 3), np.nan)], LABELS, 1)


def plainly_greedy(nets, labels, size):
    """The definition, an image at a time: add the candidate that gives the lowest error, then cross-entropy."""
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
def test_greedy_follows_its_definition_and_is_never_worse_than_the_best_candidate(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 60)
    nets = [rng.dirichlet(np.ones(4), 60) + 0.3 * np.eye(4)[labels] for _ in range(6)]
    nets = [(p / p.sum(1, keepdims=True)).astype(np.float32) for p in nets]
    chosen = greedy(nets, labels, 5)
    assert chosen == plainly_greedy(nets, labels, 5)
    error = (average([nets[i] for i, _ in chosen], [weight for _, weight in chosen]).argmax(1) != labels).mean()
    assert error <= min((p.argmax(1) != labels).mean() for p in nets)


def test_cross_entropy_of_an_impossible_truth_is_finite():
    assert 80 < cross_entropy(np.array([0.0])) < 100
