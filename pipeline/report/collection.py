"""All published experiments on one page: the paper's claims over all of them, then each with its nets and pictures."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.document import (
    Block,
    Code,
    Document,
    Fold,
    Listed,
    Paragraph,
    Picture,
    Section,
    Table,
    Text,
    Verdict,
    count,
    interval,
    percent,
    plural,
)
from pipeline.report.inputs import evaluated, named, split_of
from pipeline.report.paper import CLAIMS, TITLE, Claim

Result = Mapping[str, Any]  # a published experiment's JSON

PICTURES = {
    "curves": "learning curves",
    "responses": "layer responses",
    "cost": "error against cost",
    "transfer": "transfer",
}


def collection(results: Sequence[Result]) -> Document:
    """The page, to lie beside the experiments' files."""
    claims = Section("claims", "The paper's claims", _claims(results))
    return Document(
        "Published results",
        f"Experiments of this reproduction of {TITLE}",
        [claims, *(Section(result["name"], title(result), _experiment(result)) for result in results)],
    )


def overview(results: Sequence[Result]) -> Table:
    """A row an experiment: the net that validates best, the ensemble, and the claims that were measured."""
    header = ["experiment", "nets", "steps", "best net on validation", "test error", "ensemble", "test error", "claims"]
    return Table(header, [_row(result) for result in results], "lrrlrrrl")


def title(result: Result) -> str:
    """The data set and what was chosen beside it, of the command that makes the experiment."""
    words = [word.removeprefix("++set.") for word in shlex.split(_command(result)) if "=" in word]
    shown = [word for word in words if not word.startswith(("data=", "trainer.", "evaluation.runs="))]
    return ", ".join([result["data"]["name"], *shown])


def _command(result: Result) -> str:
    return result["provenance"]["commands"]["the whole experiment"]


def _row(result: Result) -> list[Text]:
    tested, average = evaluated(result["evaluation"]), result["evaluation"].get("ensemble")
    best = min(tested, key=lambda net: (net["val_err1"] is None, net["val_err1"] or 0.0))
    steps = sorted({net["steps"] for net in tested if net["steps"]})
    return [
        title(result),
        count(len(tested)),
        " to ".join(count(end) for end in dict.fromkeys((steps[0], steps[-1]))) if steps else "–",
        named(best),
        f"{percent(best['test_err1'])} ({interval(best['ci95'])})",
        f"of {average['size']}" if average else "–",
        f"{percent(average['test_err1'])} ({interval(average['ci95'])})" if average else "–",
        _tally(result["claims"]),
    ]


def _tally(claims: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{sum(c['status'] == status for c in claims)} {status[:-1]}" for status in ("holds", "fails"))


def _claims(results: Sequence[Result]) -> list[Block]:
    rows: list[list[Text]] = []
    missing: list[Claim] = []
    for claim in CLAIMS:
        found = [(result, kept) for result in results for kept in result["claims"] if kept["id"] == claim.id]
        if not found:
            missing.append(claim)
        elif all(kept["runs"] is None for _, kept in found):  # counted on the nets, whatever the experiment
            found = found[:1]
        for at, (result, kept) in enumerate(found):
            about = ("", "") if at else (claim.statement, claim.reference)
            where = "" if kept["runs"] is None else title(result)
            rows.append([about[0], Verdict(kept["status"]), where, _length(kept), kept["evidence"], about[1]])
    text = (
        f"{len(CLAIMS) - len(missing)} of {plural(len(CLAIMS), 'claim')} of the paper were measured by the experiments below, "
        "each verdict computed from the experiment's own runs. Nets are compared where they were trained for as long as each "
        "other; length is that of the shortest training behind a verdict, of the paper's."
    )
    table = Table(["claim", "verdict", "experiment", "length", "evidence", "source"], rows, "lllrll")
    return [Paragraph(text), table, _missing(missing)]


def _length(kept: Mapping[str, Any]) -> str:
    return "" if kept["length"] is None else percent(kept["length"], 0)


def _missing(claims: Sequence[Claim]) -> Block:
    commands: dict[str, list[str]] = {}
    for claim in claims:
        commands.setdefault(claim.command, []).append(claim.id)
    text = "\n\n".join(f"# {', '.join(ids)}\n{command}" for command, ids in commands.items())
    return Fold(f"{plural(len(claims), 'claim')} not measured, and what would measure them", [Listed(text)])


def _experiment(result: Result) -> list[Block]:
    known, counts = result["provenance"], result["data"]["counts"]
    made: Text = (
        f"{known.get('date', 'no date')}, {'; '.join(known.get('host', ['hardware not recorded']))}; commit ",
        Code(", ".join(commit[:10] for commit in known.get("git_commit", ["not recorded"]))),
        f"; {', '.join(f'{count(size)} {split}' for split, size in counts.items())} images; ",
        Code(f"{result['name']}.json"),
        " holds curves, claims and versions.",
    )
    pictures = [
        Picture(f"{result['name']}/{name}.png", what.capitalize(), f"{what} of {title(result)}")
        for name, what in PICTURES.items()
        if name in result["pictures"]
    ]
    return [Listed(_command(result)), Paragraph(made), nets(result), *pictures]


def nets(result: Result) -> Table:
    """A row a net and one of the ensemble: test errors in percent with 95 % intervals."""
    evaluation, rows = result["evaluation"], []
    for at, net in enumerate(evaluated(evaluation)):
        apart = at >= len(evaluation["members"]) and net is evaluation.get("run")
        name = named(net) + (" (named run)" if apart else "")
        name += ", trained on all images" if split_of(net) == "full" else ""
        minutes = f"{net['seconds'] / 60:.1f}" if "seconds" in net and not net.get("snapshot") else ""
        rows.append([name, count(net["steps"] or None), minutes, *_errors(net)])
    average = evaluation.get("ensemble")
    if average:
        rows.append([f"ensemble of {average['size']}", "", "", *_errors(average)])
    header = ["net", "steps", "minutes", "validation", "test error", "95 % interval", "top-5", "95 % interval"]
    return Table(header, rows, "l" + "r" * 7, strong=frozenset({len(rows) - 1} if average else ()))


def _errors(values: Mapping[str, Any]) -> list[str]:
    return [
        percent(values["val_err1"]),
        percent(values["test_err1"]),
        interval(values["ci95"]),
        percent(values["test_err5"]),
        interval(values.get("ci95_err5")),
    ]
