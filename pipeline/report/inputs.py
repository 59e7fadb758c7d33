"""The report's inputs: results of evaluation, sweep and training, with nets as `pipeline.record.Net`.

Errors are fractions, steps are optimiser steps, an interval is [low, high] at 95 %, None means not measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal, NamedTuple

from pipeline.errors import PipelineError, hint
from pipeline.record import Net, best_on_validation, from_json
from pipeline.report.curve import Curve
from pipeline.report.traits import ids, same_training

FEWEST_CLASSES = 50  # for a top-5 error: five guesses at random miss nine images of ten


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Responses of a net's 3x3 layers after batch norm, in order from the input, see `pipeline.ensemble.responses`."""

    net: Net
    std: Sequence[float]
    gradient: Sequence[float]
    at_start: Mapping[str, Sequence[float]] | None = None  # std and gradient of the first weights; None: not measured


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A line of the sweep's leaderboard."""

    name: str
    config: Mapping[str, Any]  # dotted key -> value
    val_err1: float | None
    steps: int | None
    stopped_early: bool
    status: str
    run_id: str | None = None
    key: str | None = None


@dataclass(frozen=True, kw_only=True)
class Results:
    """What a report of any nets shows.

    data: see `data_of`. evaluation: evaluate.json. leaderboard: leaderboard.json.
    provenance, all keys optional: git_commit, dvc_lock (hash) and host (lists, as the runs recorded them), date (of the
    runs), attempts {key of a run that had several: [[number, first step, when it began], ...]}, versions
    {package: version} (of the report), commands {purpose: command}, tracking_uri; the page shows any other key under its
    own name.

    Raises:
        PipelineError: evaluation or leaderboard is not of this version.
    """

    data: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    leaderboard: Mapping[str, Any] | None = None
    curves: Sequence[Curve] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        try:
            self._read()
        except (KeyError, TypeError, ValueError) as error:
            raise PipelineError(f"evaluate.json or leaderboard.json is of another version ({error}); {hint('evaluate')} writes it anew") from None  # fmt: skip

    def _read(self) -> None:
        """Reads every record, so that one of another version is found before anything is drawn."""
        _ = self.nets, self.trials

    @cached_property
    def members(self) -> list[Net]:
        return list(map(from_json, self.evaluation["members"]))

    @cached_property
    def named_run(self) -> Net | None:
        run = self.evaluation.get("run")
        return from_json(run) if run else None

    @property
    def ensemble(self) -> Mapping[str, Any] | None:
        return self.evaluation.get("ensemble")

    @cached_property
    def nets(self) -> list[Net]:
        return evaluated(self.evaluation)

    @property
    def on_all_images(self) -> list[Net]:
        """The nets of data.split=full."""
        return [net for net in self.nets if net.val_err1 is None]

    @cached_property
    def best_member(self) -> Net | None:
        """The member with the lowest validation error; None where none can be chosen, see `best_on_validation`."""
        return best_on_validation(self.members)

    @property
    def gain(self) -> Mapping[str, Any] | None:
        """The ensemble's error minus the best member's on the same images; negative if the ensemble is better."""
        return self.ensemble.get("difference_to_best_member") if self.ensemble and self.best_member else None

    @cached_property
    def trials(self) -> list[Trial]:
        names = {each.name for each in fields(Trial)}
        trials = self.leaderboard["trials"] if self.leaderboard else []
        return [Trial(**{key: value for key, value in trial.items() if key in names}) for trial in trials]

    @property
    def num_test(self) -> int:
        return int(self.data["counts"].get("test", 0))

    @property
    def depths(self) -> list[int]:
        """All depths in the report: every figure gives a depth the same colour."""
        return sorted({net.model.depth for net in (*self.nets, *(curve.net for curve in self.curves))})


class Rival(NamedTuple):
    """A member, and how the ensemble compares with it on the same images."""

    net: Net
    difference: Mapping[str, Any]  # ensemble's error minus the member's: estimate and ci95
    p: float | None  # of McNemar's exact test, which published results may lack

    def hardness(self) -> tuple[bool, bool, float, float]:
        """Sort key: the surer it is that the member errs less, the harder it is to beat; then the less sure that it errs more."""
        (low, high), p = self.difference["ci95"], self.p or 0.0
        return low > 0, high >= 0, -p if low > 0 else p, high


@dataclass(frozen=True, kw_only=True)
class ReportInputs(Results):
    """All values of a report of classifiers.

    evaluation has per_class and confusion of the ensemble, else of the named run. responses: responses.json. mistakes:
    mistakes.json.
    """

    responses: Sequence[Mapping[str, Any]] = ()
    mistakes: Sequence[Mapping[str, Any]] = ()

    @property
    def views(self) -> str | None:
        """Views of a test image, by the protocols' names, for example 10-crop."""
        return (self.evaluation.get("data") or {}).get("protocol")

    @property
    def against_members(self) -> list[tuple[Net, Mapping[str, Any]]]:
        """Each member and the ensemble's comparison with it, which published results may lack."""
        comparisons = self.ensemble.get("against_members", []) if self.ensemble else []
        return list(zip(self.members, comparisons, strict=False))

    def rival(self, end: Literal["", "5"] = "") -> Rival | None:
        """The member that an ensemble has to beat.

        The best member; where none can be chosen, the one that is hardest to beat, so that all are beaten: one that errs less
        than the ensemble by more than chance explains, or else the one least surely beaten.

        Args:
            end: "5" for top-5 errors.
        """
        difference, p = f"difference{end}", f"mcnemar_p{end}"
        if self.ensemble and self.best_member:
            best = self.ensemble.get(f"difference_to_best_member{end}")
            return None if best is None else Rival(self.best_member, best, self.ensemble.get(p))
        against = [Rival(member, each[difference], each.get(p)) for member, each in self.against_members]
        return max(against, key=Rival.hardness, default=None)

    @cached_property
    def by_id(self) -> dict[str, Net]:
        """Every net with curves or an evaluation, by its ids (see `ids`); snapshots excepted."""
        nets = (*(curve.net for curve in self.curves), *(net for net in self.nets if not net.snapshot))
        return {name: net for net in nets for name in ids(net)}

    @cached_property
    def layers(self) -> list[Layers]:
        """Responses of the evaluated nets."""
        tested = {(name, net.snapshot): net for net in self.nets for name in ids(net)}
        result = []
        for entry in self.responses:
            places = [(entry.get(name), entry.get("snapshot", 0)) for name in ("key", "run_id")]
            net = next((tested[place] for place in places if place in tested), None)
            if net is not None:
                result.append(
                    Layers(net=net, std=entry["std"], gradient=entry["gradient"], at_start=entry.get("at_start"))
                )
        return result

    @property
    def top5_tells(self) -> bool:
        """Whether there are so many classes that a top-5 error tells something."""
        return len(self.data["classes"]) >= FEWEST_CLASSES


def data_of(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The report's view of a store's manifest: split.num_val of the training images are validation images.

    This holds for every member and trial; only the named run can train on all images (data.split=full).
    """
    num_val = int(manifest["split"]["num_val"])
    train, test = manifest["counts"]["train"] - num_val, manifest["counts"]["test"]
    return {
        "name": manifest["name"],
        "classes": list(manifest["classes"]),
        "counts": {"train": train, "val": num_val, "test": test},
        "content_hash": manifest["content_hash"],
    }


def evaluated(evaluation: Mapping[str, Any]) -> list[Net]:
    """Every evaluated training once: the members, then the named run unless it is a member, then the others."""
    members = list(map(from_json, evaluation["members"]))
    run = [from_json(evaluation["run"])] if evaluation.get("run") else []
    run = [net for net in run if not any(same_training(net, member) for member in members)]
    return [*members, *run, *map(from_json, evaluation.get("others", []))]
