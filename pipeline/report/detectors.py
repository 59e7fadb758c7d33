"""The inputs of a report of object detectors: evaluate.json, leaderboard.json and mistakes.json of such nets.

AP is a fraction. In the records of detectors an error is 1 - AP (val_err1, test_err1), or 1 - AP50 (val_err5, test_err5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pipeline.record import Net
from pipeline.report import markdown as md
from pipeline.report.inputs import Results
from pipeline.report.traits import same_training

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Detector:
    """An evaluated detector and what its test images show."""

    net: Net
    scores: Mapping[str, float | None]  # ap, ap50, ap75, ap_small, ap_medium, ap_large; None where no object counts
    per_class: Sequence[float | None]
    voc: Mapping[str, float]  # mAP of "07" and of "area", see `pipeline.evaluation.detection.VocMatches`
    voc_ci95: Mapping[str, Sequence[float]]  # its intervals

    @property
    def name(self) -> str:
        """That of the net within, since all have the same head: ResNet-20."""
        return self.net.model.net.name


@dataclass(frozen=True, kw_only=True)
class DetectionInputs(Results):
    """All values of a report of detectors.

    evaluation has the intervals, classes and gains too. scenes: those of mistakes.json, each with index, size (width and
    height), png (base64), truth and found; corners are in pixels of `size`.
    """

    scenes: Sequence[Mapping[str, Any]] = ()

    def _read(self) -> None:
        super()._read()
        _ = self.detectors

    @cached_property
    def detectors(self) -> list[Detector]:
        """Every evaluated training once, in the order of `nets`."""
        results = self.evaluation
        entries = [*results["members"], *filter(None, [results.get("run")]), *results.get("others", [])]
        kept = {(entry["key"], entry.get("snapshot", 0)): entry for entry in reversed(entries)}
        picked = [(net, kept[net.key, net.snapshot]) for net in self.nets]
        parts = ("scores", "per_class", "voc", "voc_ci95")
        return [Detector(net=net, **{key: entry[key] for key in parts}) for net, entry in picked]

    @property
    def best(self) -> Detector | None:
        """The best member on validation images; without members, the named run."""
        best = self.best_member or (None if self.members else self.named_run)
        return next((each for each in self.detectors if best and same_training(each.net, best)), None)

    @property
    def gains(self) -> Sequence[Mapping[str, Any]]:
        """Of one net in place of another, each with net, base, seeds, their mean APs, relative and difference.

        Under ap50 and voc07 are those of AP50 and of VOC's mAP: see `gain_in`. apart tells several gains of the same nets from
        each other; of these, the first stands for the nets.
        """
        return self.evaluation.get("gains", [])

    def behind(self, row: Mapping[str, Any]) -> list[Detector]:
        """The detectors that a gain or an improvement is computed from.

        Gains of published results may not name their runs.
        """
        if "keys" in row:
            return [each for each in self.detectors if each.net.key in row["keys"]]
        nets = (row.get("base"), row.get("net"))
        return [each for each in self.detectors if each.name in nets and each.net.seed in row["seeds"]]


def swap(gain: Mapping[str, Any], words: str) -> str:
    """ResNet-14 `words` plain-14, with what tells the gain from others of the two nets."""
    return f"{gain['net']} {words} {gain['base']}{told_apart(gain)}"


def told_apart(gain: Mapping[str, Any]) -> str:
    """As an addition in brackets; "" where no other gain is of the same nets."""
    return f" ({gain['apart']})" if gain.get("apart") else ""


def gain_in(gain: Mapping[str, Any], metric: str) -> Mapping[str, Any]:
    """A gain in ap, ap50 or voc07, as one in AP."""
    return gain if metric == "ap" else {**gain, **gain[metric]}


def ap_of(error: float | None) -> float | None:
    return None if error is None else 1 - error


def ap_interval(bounds: Sequence[float] | None) -> Interval | None:
    """Of AP, from that of 1 - AP."""
    return None if bounds is None else (1 - bounds[1], 1 - bounds[0])


def shown_ap(ap: float | None) -> str:
    """In percent, with one digit as the paper prints it."""
    return md.percent(ap, 1)


def shown_interval(bounds: Sequence[float] | None) -> str:
    return "–" if bounds is None else f"{100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}%"
