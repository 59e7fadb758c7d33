"""The paper's claims held against what was measured here: holds, fails, or not measured, with the numbers.

Nothing is typed by hand: a verdict is computed from the inputs. A comparison holds or fails by its estimate, and
`beyond_chance` says whether its interval agrees; a published error is reached unless our whole interval lies above it.
Nets count where they trained for the paper's length, so a quick run settles nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

from pipeline.evaluation.intervals import newcombe, wilson
from pipeline.report.document import count, interval, percent, points
from pipeline.report.inputs import ReportInputs, kind_of, net_name, short_name, split_of
from pipeline.report.paper import CLAIMS, PROTOCOLS, Claim

Status = Literal["holds", "fails", "not measured"]
FULL_LENGTH = 0.95  # of the paper's iterations: an epoch that does not divide them is no shorter training
TREND_DEPTHS = range(1, 1000)  # the paper itself reports that 1202 layers err more than 110


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A claim's verdict; fractions."""

    id: str
    statement: str
    reference: str
    status: Status
    evidence: str
    value: float | None = None  # our error, or the difference the verdict rests on
    interval: tuple[float, float] | None = None
    paper: float | None = None
    beyond_chance: bool | None = None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "interval": list(self.interval) if self.interval else None}


class Measured(NamedTuple):
    """Error of a net on a split of n images: the mean of its runs on test, the best of its runs on validation."""

    name: str
    error: float
    n: int
    runs: int
    rule: str  # mean or best
    full: int = 0  # of these runs, trained on all images

    @property
    def errors(self) -> int:
        return round(self.error * self.n)

    def __str__(self) -> str:
        runs = f" ({self.rule} of {self.runs} runs)" if self.runs > 1 else ""
        split = f" ({'' if self.full == self.runs else f'{self.full} '}trained on all images)" if self.full else ""
        return f"{self.name} {percent(self.error)}{runs}{split}"


class Training(NamedTuple):
    """A run of a net."""

    error: float
    steps: int
    full: bool = False  # trained on all images, the validation ones too


Slot = tuple[bool, int]  # residual, depth


def assess(inputs: ReportInputs) -> list[Outcome]:
    """Every claim of paper.py, in its order."""
    return [_assess(claim, inputs) for claim in CLAIMS]


def applies(claim_id: str, dataset: str) -> bool:
    """Whether the paper makes the claim on this data set, or on no data set in particular."""
    return any(claim.id == claim_id and (not claim.datasets or dataset in claim.datasets) for claim in CLAIMS)


def _assess(claim: Claim, inputs: ReportInputs) -> Outcome:
    if not applies(claim.id, inputs.data["name"]):
        where = " and ".join(PROTOCOLS[name].title for name in claim.datasets)
        return _open(claim, f"The paper says this of {where}; these runs are on {inputs.data['name']}.")
    return CHECKS[claim.kind](claim, inputs)


def _ensemble_gain(claim: Claim, inputs: ReportInputs) -> Outcome:
    ensemble, best = inputs.ensemble, inputs.best_member
    if ensemble is None or best is None or ensemble["size"] < 2:
        return _open(claim, "No ensemble of two members or more was evaluated.")
    gain = inputs.gain
    difference = ensemble["test_err1"] - best["test_err1"]
    bounds = (float(gain["ci95"][0]), float(gain["ci95"][1])) if gain else None
    evidence = (
        f"On {inputs.data['name']}, {ensemble['size']} nets: ensemble {percent(ensemble['test_err1'])}, "
        f"best member {short_name(best)} {percent(best['test_err1'])}"
    )
    return _compared(claim, difference < 0, difference, bounds, evidence)


def _depth_helps(claim: Claim, inputs: ReportInputs) -> Outcome:
    return _trend(claim, inputs, residual=True, deeper_is_better=True)


def _depth_hurts(claim: Claim, inputs: ReportInputs) -> Outcome:
    return _trend(claim, inputs, residual=False, deeper_is_better=False)


def _trend(claim: Claim, inputs: ReportInputs, residual: bool, deeper_is_better: bool) -> Outcome:
    kind = "residual" if residual else "plain"
    for split in ("test", "validation"):
        nets = {slot: net for slot, net in _full_length(inputs, split).items() if slot[0] == residual}
        depths = sorted(depth for _, depth in nets if depth in TREND_DEPTHS)
        if len(depths) >= 2:
            chain = [nets[residual, depth] for depth in depths]
            holds = (chain[-1].error < chain[0].error) == deeper_is_better and chain[-1].error != chain[0].error
            return _between(claim, holds, chain[-1], chain[0], split, chain)
    return _open(claim, _missing(inputs, f"two {kind} nets of different depth", lambda slot: slot[0] == residual))


def _residual_beats_plain(claim: Claim, inputs: ReportInputs) -> Outcome:
    for split in ("test", "validation"):
        nets = _full_length(inputs, split)
        common = [depth for residual, depth in nets if residual and (False, depth) in nets]
        if common:
            ours, theirs = nets[True, max(common)], nets[False, max(common)]
            return _between(claim, ours.error < theirs.error, ours, theirs, split, [ours, theirs])
    return _open(claim, _missing(inputs, "a residual and a plain net of the same depth", lambda slot: True))


def _reaches(claim: Claim, inputs: ReportInputs) -> Outcome:
    target = claim.target
    assert target and target.depth is not None and target.err1 is not None
    views = (inputs.evaluation.get("data") or {}).get("protocol") or "views that were not recorded"
    if target.views and views != target.views:
        return _open(claim, f"The paper's error is at {target.views}, these are at {views}.", target.err1 / 100)
    net = _full_length(inputs, "test", target.model).get((target.residual, target.depth))
    if net is None:
        return _open(claim, _missing(inputs, target.net, lambda slot: True, target.model), target.err1 / 100)
    low, high = wilson(net.errors, net.n)
    paper = target.err1 / 100
    return Outcome(
        id=claim.id,
        statement=claim.statement,
        reference=claim.reference,
        status="holds" if low <= paper else "fails",
        evidence=f"{net} on {count(net.n)} test images, 95% interval {interval((low, high))}; the paper {percent(paper)}",
        value=net.error,
        interval=(low, high),
        paper=paper,
        beyond_chance=not low <= paper <= high,
    )


def _not_public(claim: Claim, inputs: ReportInputs) -> Outcome:
    assert claim.target and claim.target.err5 is not None
    ours = inputs.ensemble and inputs.ensemble["test_err5"]
    here = f" Our ensemble has {percent(ours)} on the validation images." if ours is not None else ""
    return _open(claim, f"The labels of the test server's images are not public.{here}", claim.target.err5 / 100)


CHECKS: dict[str, Callable[[Claim, ReportInputs], Outcome]] = {
    "ensemble_gain": _ensemble_gain,
    "depth_helps": _depth_helps,
    "depth_hurts": _depth_hurts,
    "residual_beats_plain": _residual_beats_plain,
    "reaches": _reaches,
    "not_public": _not_public,
}


def _measured(inputs: ReportInputs, split: str, model: str | None = None) -> dict[Slot, list[Training]]:
    """Error and length of every training, by net: on test the evaluated ones, on validation those with curves.

    model: takes only nets of this name, which tells options and strides apart.
    """
    from pipeline.report.curves import VAL, series

    found: dict[Slot, list[Training]] = {}
    if split == "test":
        for net in inputs.nets:
            if model in (None, net["model"]) and kind_of(net) != "others":
                training = Training(net["test_err1"], net["steps"], split_of(net) == "full")
                found.setdefault((net["residual"], net["depth"]), []).append(training)
        return found
    for curve in inputs.curves:
        if model in (None, curve["model"]) and kind_of(curve) != "others" and (values := series(curve, VAL)):
            found.setdefault((curve["residual"], curve["depth"]), []).append(
                Training(values[-1][1], int(values[-1][0]))
            )
    return found


def _full_length(inputs: ReportInputs, split: str, model: str | None = None) -> dict[Slot, Measured]:
    """Nets trained for the paper's length; empty where the split's size is unknown."""
    n = inputs.data["counts"].get("test" if split == "test" else "val", 0)
    needed = FULL_LENGTH * PROTOCOLS[inputs.data["name"]].steps
    nets = {}
    for (residual, depth), trainings in _measured(inputs, split, model).items():
        whole = [training for training in trainings if training.steps >= needed]
        if whole and n:
            errors = [training.error for training in whole]
            # A sweep's runs differ in lr, so on validation, where choosing is allowed, the best one speaks for the net.
            rule, error = ("mean", sum(errors) / len(errors)) if split == "test" else ("best", min(errors))
            nets[residual, depth] = Measured(
                net_name(depth, residual), error, n, len(whole), rule, sum(t.full for t in whole)
            )
    return nets


def _missing(inputs: ReportInputs, what: str, wanted: Callable[[Slot], bool], model: str | None = None) -> str:
    """What would have to be trained, and what shorter runs have shown so far."""
    paper = PROTOCOLS[inputs.data["name"]].steps
    short = []
    tested, validated = _measured(inputs, "test", model), _measured(inputs, "validation", model)
    for slot, trainings in sorted({**validated, **tested}.items()):
        if wanted(slot):
            longest = max(trainings, key=lambda training: (training.steps, -training.error))
            split = "" if slot in tested else " on validation"
            short.append(f"{net_name(slot[1], slot[0])} {percent(longest.error)}{split} after {count(longest.steps)}")
    so_far = f" So far: {', '.join(short)}." if short else ""
    return f"Needs {what} trained for the paper's {count(paper)} iterations.{so_far}"


def _between(
    claim: Claim, holds: bool, a: Measured, b: Measured, split: str, shown: Iterable[Measured]
) -> Outcome:  # a minus b
    difference = newcombe(a.errors, a.n, b.errors, b.n)
    evidence = f"{', '.join(map(str, shown))} on {count(a.n)} {split} images"
    return _compared(claim, holds, a.error - b.error, (difference.low, difference.high), evidence)


def _compared(
    claim: Claim, holds: bool, difference: float, bounds: tuple[float, float] | None, evidence: str
) -> Outcome:
    evidence += f"; difference {points(difference)} points"
    beyond = None
    if bounds:
        beyond = not bounds[0] <= 0 <= bounds[1]
        evidence += f", 95% interval {points(bounds[0])} to {points(bounds[1])}"
        evidence += "" if beyond else ", which includes zero: it may be chance"
    return Outcome(
        id=claim.id,
        statement=claim.statement,
        reference=claim.reference,
        status="holds" if holds else "fails",
        evidence=evidence,
        value=difference,
        interval=bounds,
        beyond_chance=beyond,
    )


def _open(claim: Claim, why: str, paper: float | None = None) -> Outcome:
    return Outcome(
        id=claim.id,
        statement=claim.statement,
        reference=claim.reference,
        status="not measured",
        evidence=why,
        paper=paper,
    )
