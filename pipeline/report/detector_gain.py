"""What a net gains in place of another in the same detector, beside the paper's Tables 7 and 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from pipeline.report import markdown as md
from pipeline.report.check_detectors import ABOVE_ZERO, METRICS, over, status_of
from pipeline.report.claims import ONE_RUN, Status
from pipeline.report.detectors import DetectionInputs, gain_in, shown_ap, swap, told_apart
from pipeline.report.paper import CLAIMS, DETECTION, Claim
from pipeline.report.theme import Draw, Theme, name_lines, new_figure

PRINTED = [claim for claim in CLAIMS if claim.dataset in DETECTION and len(claim.paper) == 2 and len(claim.nets) == 2]
(SHARE,) = (claim for claim in CLAIMS if claim.check == "detects_by")
MEASURED = ("ap", "ap50", "voc07")  # here; the labels of VOC 2012's test images are not public
PAPERS_SHARE = SHARE.paper["gain"] / 100  # of AP on COCO, as printed


def detector_gain(inputs: DetectionInputs) -> list[md.Block]:
    """A sentence and a line of the figure for each gain, and the paper's numbers below them in one table."""
    if not inputs.gains:
        return [md.paragraph("No two nets were trained alike, so none can be compared."), _table(inputs)]
    lead = (
        "Only the net within the detector differs, with the weights that it starts from and the learning rate that is best for "
        "it on validation images; data, seeds and the rest of the recipe are the same. "
    )
    return [md.paragraph(lead, " ".join(map(_verdict, inputs.gains))), _figure(inputs), _table(inputs)]


def gain_sentence(gain: Mapping[str, Any]) -> str:
    """The gain in a sentence, with what its interval allows to say."""
    verdict = {"holds": "more than chance explains", "fails": "a loss", "inconclusive": "which may be chance"}
    relative, status = gain["relative"], verdict[_status(gain)]
    first = f"With {swap(gain, 'in place of')}, AP goes from {shown_ap(gain['base_ap'])} to {shown_ap(gain['net_ap'])}"
    if relative is None:
        return f"{first}, {status}."
    share, bounds = md.signed(100 * relative["estimate"]), md.interval(relative["ci95"])
    return f"{first}, a relative change of {share}% (95% interval {bounds} over {over(gain)}), {status}."


def _status(gain: Mapping[str, Any]) -> Status:
    return status_of(gain["difference"], len(gain["seeds"]), ABOVE_ZERO)


def _verdict(gain: Mapping[str, Any]) -> str:
    status, (low, high) = _status(gain), gain["difference"]["ci95"]
    bounds = (
        f"with {swap(gain, 'in place of')}, AP differs by {md.points(gain['difference']['estimate'])} points, "
        f"95% interval {md.points(low)} to {md.points(high)} over {over(gain)}"
    )
    if status == "holds":
        return f"The gain is more than chance explains: {bounds}."
    if status == "fails":
        return f"The gain does not hold here, {gain['net']} detects worse: {bounds}."
    why = "which includes zero" if low <= 0 <= high else f"but {ONE_RUN}"
    return f"Whether there is a gain is inconclusive: {bounds}, {why}."


def _table(inputs: DetectionInputs) -> md.Block:
    ours = [_ours(gain_in(gain, metric), METRICS[metric]) for gain in inputs.gains for metric in MEASURED]
    rows = ours + [_theirs(claim) for claim in PRINTED]
    header = ["where", "metric", "net", "in place of", "with it", "before", "difference", "95% interval", "relative", "95% interval"]  # fmt: skip
    caption = (
        "Differences in percentage points; relative: of the AP before. The paper prints no intervals; "
        f"it calls the gain in AP on COCO {PAPERS_SHARE:.0%} ({SHARE.reference})."
    )
    return md.table(header, rows, "llll" + "r" * 6, caption, range(len(ours)))


def _ours(gain: Mapping[str, Any], metric: str) -> list[str]:
    relative, difference = gain["relative"], gain["difference"]
    seeds = f"seed{'s' * (len(gain['seeds']) > 1)} {', '.join(map(str, gain['seeds']))}"
    return [
        f"here, {seeds}{told_apart(gain)}",
        metric,
        gain["net"],
        gain["base"],
        shown_ap(gain["net_ap"]),
        shown_ap(gain["base_ap"]),
        md.points(difference["estimate"]),
        " to ".join(md.points(end) for end in difference["ci95"]),
        "–" if relative is None else f"{md.signed(100 * relative['estimate'])}%",
        md.interval(relative and relative["ci95"]),
    ]


def _theirs(claim: Claim) -> list[str]:
    (base, before), (net, after) = claim.paper.items()
    where, metric = f"{claim.reference}, {DETECTION[claim.dataset].title}", METRICS[claim.metric]
    gained, relative = _tenths(after - before), f"{_tenths(100 * (after - before) / before)}%"
    return [where, metric, net, base, f"{after:.1f}%", f"{before:.1f}%", gained, "–", relative, "–"]


def _tenths(value: float) -> str:
    """With its sign and as many digits as the paper prints."""
    return f"{value:+.1f}".replace("-", "−")


class Line(NamedTuple):
    """Of the figure; fractions."""

    label: str
    share: float
    interval: tuple[float, float] | None  # None: the paper's


def _figure(inputs: DetectionInputs) -> md.Block:
    lines = [
        Line(swap(gain, "for"), gain["relative"]["estimate"], tuple(gain["relative"]["ci95"]))
        for gain in inputs.gains
        if gain["relative"]
    ]
    if not lines:
        return md.paragraph("No figure of the gains: the nets they start from detect nothing.")
    paper = Line(f"paper: {SHARE.nets[1].split(' (')[0]} for {SHARE.nets[0]}", PAPERS_SHARE, None)
    caption = (
        "Relative gain in AP with its 95% interval; the difference in AP decides the verdict, see the table. Grey and hollow: the "
        f"paper's on COCO ({SHARE.reference})."
    )
    alt = "Relative gains in AP: " + ", ".join(f"{each.label} {md.percent(each.share, 1)}" for each in [*lines, paper])
    return md.Figure("gain", caption, alt, gains([*lines, paper]))


def gains(lines: Sequence[Line]) -> Draw:
    """A line for each gain, first on top, and zero as a rule."""

    def draw(theme: Theme) -> Any:
        figure = new_figure(theme, 8, 1.3 + 0.42 * len(lines), 1.3 + 0.55 * len(lines))
        axes = figure.add_subplot()
        axes.axvline(0, color=theme.muted, linewidth=1.4)
        for y, line in enumerate(lines):
            low, high = (100 * end for end in line.interval or (line.share, line.share))
            ink = theme.text if line.interval else theme.muted
            axes.plot([low, high], [y, y], color=ink, linewidth=2.2, solid_capstyle="round")
            face = ink if line.interval else theme.background
            axes.plot(100 * line.share, y, "D", color=ink, markersize=7.5, markerfacecolor=face)
            axes.annotate(
                _tenths(100 * line.share), (high, y), xytext=(9, 0), textcoords="offset points", va="center", fontsize=9,
            )  # fmt: skip
        name_lines(theme, axes, [line.label for line in lines])
        axes.margins(x=0.12)
        axes.set_xlabel("relative gain in AP (%)")
        return figure

    return draw
