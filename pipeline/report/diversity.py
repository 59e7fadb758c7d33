"""Seeds of one net against nets of several depths, averaged."""

from __future__ import annotations

from pipeline.report.document import Block, Paragraph, Table, Text, interval, percent
from pipeline.report.inputs import Average, ReportInputs, full_name


def diversity(inputs: ReportInputs) -> list[Block]:
    """A table of both averages by their size; nothing where evaluation had not two seeds and two depths."""
    sizes = inputs.evaluation.get("seeds_against_depths", [])
    if not sizes:
        return []
    rows: list[list[Text]] = [[str(s["size"]), *_cells(s["seeds"]), *_cells(s["depths"])] for s in sizes]
    names = {net["model"]: net for net in inputs.nets}
    last = sizes[-1]
    net = full_name(names[last["net"]])
    depths = ", ".join(full_name(names[model]) for model in last["depths"]["models"])
    seeds, other = (last[side]["test_err1"] for side in ("seeds", "depths"))
    verdict = "err the same" if seeds == other else f"{'seeds' if seeds < other else 'depths'} err less"
    lead = (
        f"Does an ensemble need nets of different depth, as the paper's has? Averages of seeds of {net} against averages "
        f"of the best net of each depth, trained for as long, all chosen on validation error, the best first ({depths}). "
        f"At {last['size']} nets {verdict}, by the estimates: {percent(seeds)} and {percent(other)}."
    )
    header = ["nets", f"seeds of {net}", "95% interval", "alone", "depths", "95% interval", "alone"]
    caption = (
        "Top-1 test error of equally weighted averages. Alone: mean error of an average's nets, each by itself; the "
        "difference is what averaging gains, since nets of other depths may err more or less from the start."
    )
    return [Paragraph(lead), Table(header, rows, "r" * 7, caption)]


def _cells(average: Average) -> list[Text]:
    return [percent(average["test_err1"]), interval(average["ci95"]), percent(average["alone"])]
