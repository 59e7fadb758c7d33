"""What was found, in plain words: the paragraph with which a report begins."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.report import markdown as md
from pipeline.report.claims import Outcome, applies
from pipeline.report.inputs import ReportInputs
from pipeline.report.paper import PROTOCOLS

AVERAGING = {  # by the verdict on the claim that it helps
    "holds": "Averaging helps by more than chance explains.",
    "fails": "Averaging harms by more than chance explains.",
    "inconclusive": "The difference may be chance.",
}
NOTABLE = 0.01  # of confidence beyond or below accuracy, a fraction


def findings(inputs: ReportInputs, outcomes: Sequence[Outcome]) -> list[md.Block]:
    """One paragraph; none where nothing was tested."""
    if not inputs.nets:
        return []
    sentences = [*_errors(inputs, outcomes), *_confusion(inputs), *_confidence(inputs), *_claims(inputs, outcomes)]
    return [md.paragraph(" ".join(sentences))]


def _errors(inputs: ReportInputs, outcomes: Sequence[Outcome]) -> list[str]:
    n, ensemble, best = inputs.num_test, inputs.ensemble, inputs.best_member
    if ensemble is None or ensemble["size"] < 2:
        net = inputs.named_run or inputs.nets[0]
        return [f"{net.name} names {_wrong(net.test_err1 or 0.0, n)} of {md.count(n)} test images wrongly."]
    first = f"The average of {md.plural(ensemble['size'], 'net')} names {_wrong(ensemble['test_err1'], n)} of {md.count(n)} test images wrongly"
    if best is None or inputs.gain is None:
        return [f"{first}."]
    alone = f"the best of them alone, {best.name}, {_wrong(best.test_err1 or 0.0, n)}"
    (judged,) = (o for o in outcomes if o.claim.check == "ensemble_gain" and o.claim.metric == "test")
    return [f"{first}; {alone}.", AVERAGING[judged.status]]


def _wrong(error: float, n: int) -> str:
    return f"{md.count(error * n)} ({md.percent(error)})"


def _confusion(inputs: ReportInputs) -> list[str]:
    counts, names = inputs.evaluation.get("confusion", []), inputs.data["classes"]
    pairs = [(-row[j], i, j) for i, row in enumerate(counts) for j in range(len(row)) if i != j and row[j]]
    if not pairs:
        return []
    times, actual, predicted = min(pairs)
    return [
        f"The most frequent mistake is to take {names[actual]} for {names[predicted]} ({md.plural(-times, 'time')})."
    ]


def _confidence(inputs: ReportInputs) -> list[str]:
    calibration = inputs.evaluation.get("calibration")
    owner = inputs.ensemble or (inputs.named_run and inputs.evaluation["run"])
    if not calibration or not owner:
        return []
    accuracy = 1 - owner["test_err1"]
    beyond = calibration["confidence"] - accuracy
    verdict = "as it should be"
    if abs(beyond) >= NOTABLE:
        verdict = "so it is too sure of itself" if beyond > 0 else "so it could be surer"
    who = "the ensemble" if inputs.ensemble else "it"
    return [
        f"On average {who} is {md.percent(calibration['confidence'], 1)} sure and {md.percent(accuracy, 1)} right, {verdict}."
    ]


def _claims(inputs: ReportInputs, outcomes: Sequence[Outcome]) -> list[str]:
    """Of the claims that trainings on this data set can measure, not of those counted on the nets alone."""
    near = [
        o
        for o in outcomes
        if applies(o.claim, inputs.data["name"])
        and (o.runs is not None or o.status == "not measured")
        and o.claim.check != "not_public"
        and (o.claim.metric != "top5" or inputs.top5_tells)
        and (o.claim.check != "gradients" or inputs.data["name"] in PROTOCOLS)  # whose steps it asks for
    ]
    if not near:
        return []
    held, failed, open_, missing = (
        sum(o.status == status for o in near) for status in ("holds", "fails", "inconclusive", "not measured")
    )
    return [
        f"Of the paper's {md.plural(len(near), 'claim')} that trainings on this data set can test, {held} {'holds' if held == 1 else 'hold'} "
        f"here, {failed} {'fails' if failed == 1 else 'fail'}, {open_} {'stays' if open_ == 1 else 'stay'} open, and {missing} "
        f"{'was' if missing == 1 else 'were'} not measured."
    ]
