"""What one detector gains over another, in AP, by the seeds that both have. AP is a fraction; intervals are at 95 %."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import permutations
from statistics import mean
from typing import Any, NamedTuple

import numpy as np

from pipeline.config import leaves
from pipeline.config.model import DECIDED, ModelConfig
from pipeline.detection.detect import Scenes
from pipeline.evaluation.ap_intervals import relative_gain
from pipeline.evaluation.detection import CocoMatches, Detections, Matches, VocMatches
from pipeline.evaluation.estimates import Estimate, between_runs_of_one
from pipeline.evaluation.intervals import Interval
from pipeline.record import Net

SEED = 0  # of the bootstrap
CONTEXT = frozenset(("model.context=false", "model.context=true"))
TOLD = 3  # keys that tell gains apart; more would fill a line

Alike = frozenset[str]  # key=value of all that was the same in some trainings


class Judged(NamedTuple):
    """A net with which of its detections on the test images match objects."""

    net: Net
    matches: CocoMatches
    voc: Mapping[str, VocMatches]  # "07" and "area"

    @classmethod
    def make(cls, net: Net, detections: Sequence[Detections], scenes: Scenes) -> Judged:
        return cls(net, scenes.matches(detections), scenes.voc_matches(detections))


class Pair(NamedTuple):
    """Detectors without and with what is judged, seed by seed."""

    alike: Alike
    before: list[Judged]
    after: list[Judged]

    @classmethod
    def make(cls, alike: Alike, before: Mapping[int, Judged], after: Mapping[int, Judged]) -> Pair:
        seeds = sorted(before.keys() & after.keys())
        return cls(alike, [before[seed] for seed in seeds], [after[seed] for seed in seeds])

    @property
    def seeds(self) -> list[int | None]:
        return [each.net.seed for each in self.after]

    @property
    def keys(self) -> list[str]:
        """Of the runs."""
        return [each.net.key for each in (*self.before, *self.after)]

    @property
    def names(self) -> tuple[str, str]:
        """Of the nets within."""
        return self.before[0].net.model.net.name, self.after[0].net.model.net.name


def improvements(
    baseline: CocoMatches, improved: Mapping[str, CocoMatches], members: Sequence[Net], nets: Sequence[Judged]
) -> list[dict[str, Any]]:
    """What each of Table 9's improvements adds to AP, by its key.

    Args:
        baseline: of the ensemble on images looked at as in validation.
        improved: of the ensemble, by the one key that differs.
        members: of the ensemble.
        nets: of which some may have been trained with `model.context`, and others without.
    """
    keys, chosen = [net.key for net in members], _chosen(nets)
    rows = [_improvement(key, "", "", None, keys, [baseline], [matches]) for key, matches in improved.items()]
    pairs = _ranked(
        Pair.make(alike, chosen.get(alike ^ CONTEXT, {}).get(name, {}), theirs)
        for alike, by_net in chosen.items()
        if "model.context=true" in alike
        for name, theirs in by_net.items()
    )
    for pair in pairs:
        before, after = ([each.matches for each in side] for side in (pair.before, pair.after))
        told = pair.names[1], _apart(pair, pairs)
        rows.append(_improvement("model.context", *told, pair.seeds, pair.keys, before, after))
    return rows


def _improvement(
    key: str,
    net: str,
    apart: str,
    seeds: list[int | None] | None,
    keys: list[str],
    before: Sequence[CocoMatches],
    after: Sequence[CocoMatches],
) -> dict[str, Any]:
    """A row of `improvements`.

    Args:
        net: the net within; "" for the ensemble.
        apart: what tells the row from others of the same net.
        seeds: of the trainings of either side, None where both sides are the same nets.
        keys: of the runs of both sides.
    """
    pairs = [(_ap(one, None), _ap(other, None)) for one, other in zip(before, after, strict=True)]
    return {
        "key": key,
        "net": net,
        "apart": apart,
        "seeds": seeds,
        "keys": keys,
        "ap": [mean(side) for side in zip(*pairs, strict=True)],
        "difference": _both(relative_gain(before, after, SEED).difference, [other - one for one, other in pairs]),
    }


def gains(nets: Sequence[Judged]) -> list[dict[str, Any]]:
    """What residual nets gain as backbones over plain nets of their depth and over VGG nets: "the same detector" (Sec. 4.3).

    Detectors are compared that were trained alike (`_alike`), by the seeds that both have. Each backbone trains at the
    learning rate that is best for it on validation images, over its seeds.
    """
    every = _ranked(
        Pair.make(alike, by_net[base], by_net[net])
        for alike, by_net in _chosen(nets).items()
        for base, net in permutations(by_net, 2)
    )
    pairs = [pair for pair in every if _swaps(pair.before[0].net.model.net, pair.after[0].net.model.net)]
    return [_gain(pair, _apart(pair, pairs)) for pair in pairs]


def _ranked(pairs: Iterable[Pair]) -> list[Pair]:
    """Those that share seeds, so that the first stands for its nets: the longest training, then the most seeds."""
    return sorted((pair for pair in pairs if pair.seeds), key=lambda pair: (-pair.after[0].net.steps, -len(pair.seeds)))


def _apart(pair: Pair, pairs: Sequence[Pair]) -> str:
    """What tells a pair from the others of the same two nets: key=value, with commas between; "" if it is the only one."""
    common = frozenset.intersection(*(other.alike for other in pairs if other.names == pair.names))
    words = sorted(pair.alike - common)
    return ", ".join([*words[:TOLD], *(["..."] if len(words) > TOLD else [])])


def _chosen(nets: Iterable[Judged]) -> dict[Alike, dict[str, dict[int, Judged]]]:
    """Of what was trained alike, by the net within: the detector of each seed at one rate.

    That is the rate with the most seeds, and of several the best on validation images.

    Of several runs of a seed at a rate, the best on validation images counts.
    """
    trained: dict[Alike, dict[str, dict[float, dict[int, Judged]]]] = {}
    for judged in sorted(nets, key=lambda each: each.net.rank):
        net = judged.net
        if net.complete and net.val_err1 is not None and net.recipe is not None:
            rates = trained.setdefault(_alike(net), {}).setdefault(net.model.net.name, {})
            rates.setdefault(net.recipe.lr, {}).setdefault(net.seed or 0, judged)
    return {
        alike: {name: min(rates.values(), key=_most_then_best) for name, rates in by_net.items()}
        for alike, by_net in trained.items()
    }


def _alike(net: Net) -> Alike:
    """All that decides a training's result but the net within, the weights that this one starts from, rate and seed."""
    assert net.recipe is not None
    of_the_net = ("backbone", "stride_on", *DECIDED)  # only bottlenecks have a stride to place
    values = {
        "model": {key: value for key, value in asdict(net.model).items() if key not in of_the_net},
        "recipe": {key: value for key, value in asdict(net.recipe).items() if key != "lr"},
        "data": {"content": net.data, "split": net.split, "num_train": net.num_train},
        "trainer": {"sync_batchnorm": net.sync_batchnorm, "callbacks": net.callbacks},
        # The title of weights begins with their name, which is another one for each net.
        "start": f"weights{''.join(net.start.partition(', ')[1:])}" if net.start else "random",
    }
    return frozenset(f"{key}={str(value).lower()}" for key, value in leaves(values))


def _most_then_best(seeds: dict[int, Judged]) -> tuple[int, float]:
    """Sort key: a rate at which fewer seeds were trained to the end shows less, and may be the best by luck."""
    return -len(seeds), mean(judged.net.val_err1 or 0.0 for judged in seeds.values())


def _swaps(base: ModelConfig, net: ModelConfig) -> bool:
    """Whether the second classifier has what the first one lacks: shortcuts."""
    if base.residual or not net.residual:
        return False
    return base.kind == "vgg" or replace(base, residual=True).name == net.name


def _gain(pair: Pair, apart: str) -> dict[str, Any]:
    """A row of `gains`: in AP, and below their keys in AP50 and in VOC's mAP of 2007."""

    def changed(matches: Callable[[Judged], Matches], iou: float | None) -> dict[str, Any]:
        return _changed([matches(each) for each in pair.before], [matches(each) for each in pair.after], iou)

    base, net = pair.names
    return {
        "net": net,
        "base": base,
        "seeds": pair.seeds,
        "keys": pair.keys,
        "apart": apart,
        **changed(lambda judged: judged.matches, None),
        "ap50": changed(lambda judged: judged.matches, 0.5),
        "voc07": changed(lambda judged: judged.voc["07"], None),
    }


def _changed(base: Sequence[Matches], net: Sequence[Matches], iou: float | None) -> dict[str, Any]:
    """What AP was and is; intervals are over images and, of several seeds, over both."""
    gain = relative_gain(base, net, SEED, iou=iou)
    pairs = [(_ap(one, iou), _ap(other, iou)) for one, other in zip(base, net, strict=True)]
    row = {
        "base_ap": mean(one for one, _ in pairs),
        "net_ap": mean(other for _, other in pairs),
        "difference": _both(gain.difference, [other - one for one, other in pairs]),
        "relative": None,
    }
    if gain.relative is not None and math.isfinite(gain.relative.high) and all(one for one, _ in pairs):
        row["relative"] = _both(gain.relative, [(other - one) / one for one, other in pairs])
    return row


def _both(over_images: Interval, by_seed: Sequence[float]) -> dict[str, Any]:
    """With an interval over images and seeds, and the degrees of freedom of its law."""
    estimate, low, high = over_images
    both = Estimate(estimate, (low, high), seeds=between_runs_of_one(by_seed, None))
    assert both.interval is not None
    return {"estimate": estimate, "ci95": list(both.interval), "df": both.df if math.isfinite(both.df) else None}


def _ap(matches: Matches, iou: float | None) -> float:
    return matches.resampled(np.ones(matches.num_images, np.int64), iou)
