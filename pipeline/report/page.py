"""The report as files: index.html, report.md, figures/*.png, claims.json."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing, write_json
from pipeline.report import sections
from pipeline.report.claims import applies, assess
from pipeline.report.comparison import comparison
from pipeline.report.cost import error_against_cost
from pipeline.report.diversity import diversity
from pipeline.report.document import (
    Block,
    Code,
    Document,
    Fold,
    Listed,
    Paragraph,
    Section,
    Table,
    Text,
    Verdict,
    count,
    percent,
)
from pipeline.report.html import to_html
from pipeline.report.inputs import ReportInputs, short_name
from pipeline.report.layers import layers
from pipeline.report.markdown import to_markdown
from pipeline.report.outcome import Outcome
from pipeline.report.paper import PROTOCOLS, TITLE
from pipeline.report.summary import summary_table as summary_table
from pipeline.report.theme import DARK, LIGHT, render
from pipeline.report.transfer import transfer

PROVENANCE = {
    "git_commit": "git commit of the runs",
    "dvc_lock": "dvc.lock at the runs",
    "date": "date of the runs",
    "host": "hardware of the runs",
    "tracking_uri": "tracking server",
}
PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")


def build_report(inputs: ReportInputs, out: Path) -> Path:
    """Writes the report and returns the path of its index.html.

    The folder `out` appears whole or not at all, and whatever stood there is replaced. The same inputs give the same
    bytes: nothing here reads the clock. In figures/, <name>-dark.png is <name>.png on a dark ground.
    """
    outcomes = assess(inputs)
    document = compose(inputs, outcomes)
    images = {
        figure.name: {theme.name: render(figure.draw, theme) for theme in (LIGHT, DARK)}
        for figure in document.figures()
    }
    with replacing(out) as part:
        (part / "figures").mkdir(parents=True)
        for name, themes in images.items():
            (part / "figures" / f"{name}.png").write_bytes(themes["light"])
            (part / "figures" / f"{name}-dark.png").write_bytes(themes["dark"])
        (part / "index.html").write_text(to_html(document, images), encoding="utf-8")
        (part / "report.md").write_text(to_markdown(document), encoding="utf-8")
        claims = [outcome.to_json() for outcome in outcomes]
        write_json(part / "claims.json", {"data": inputs.data["name"], "claims": claims})
    return Path(out) / "index.html"


def compose(inputs: ReportInputs, outcomes: Sequence[Outcome]) -> Document:
    """The report before it is written: the one structure behind page and Markdown."""
    name = inputs.data["name"]
    title = PROTOCOLS[name].title if name in PROTOCOLS else name
    parts = [
        ("summary", "Summary", sections.headline(inputs)),
        ("nets", "Nets and ensemble", [*sections.nets(inputs), *diversity(inputs)]),
        ("cost", "Error against cost", error_against_cost(inputs)),
        ("curves", "Learning curves", sections.curves(inputs)),
        ("layers", "Layer responses", layers(inputs)),
        ("transfer", "Transfer", transfer(inputs)),
        ("sweep", "Sweep", sections.sweep(inputs)),
        ("classes", "Classes", sections.classes(inputs)),
        ("paper", "Beside the paper", comparison(inputs)),
        ("claims", "The paper's claims", _claims(inputs, outcomes)),
        ("provenance", "Provenance", _provenance(inputs)),
    ]
    subtitle = f"A reproduction of {TITLE}"
    return Document(f"ResNet on {title}", subtitle, [Section(*part) for part in parts])


def _claims(inputs: ReportInputs, outcomes: Sequence[Outcome]) -> list[Block]:
    near = [outcome for outcome in outcomes if applies(outcome.claim, inputs.data["name"])]
    far = [outcome for outcome in outcomes if outcome not in near]
    tally = ", ".join(f"{s}: {sum(o.status == s for o in near)}" for s in ("holds", "fails", "not measured"))
    blocks: list[Block] = [
        Paragraph(
            f"Each verdict is computed from the runs above ({tally}). A comparison is judged by its estimate, among nets "
            "trained for as long as each other, and the text says where its interval includes zero. A published error counts "
            "as reached unless our whole interval lies above it; it takes nets trained for the paper's number of iterations."
        ),
        _claims_table(near),
    ]
    if commands := _commands(near):
        blocks += [Paragraph("What would measure the rest:"), Listed("\n\n".join(commands))]
    return [*blocks, Fold("Claims about other data sets", [_claims_table(far)])] if far else blocks


def _claims_table(outcomes: Sequence[Outcome]) -> Table:
    rows: list[list[Text]] = [
        [
            o.claim.statement,
            Verdict(o.status),
            "" if o.length is None else percent(o.length, 0),
            _runs_behind(o),
            o.evidence,
            o.claim.reference,
        ]
        for o in outcomes
    ]
    caption = "Length: iterations of the shortest training behind the verdict, of the paper's."
    return Table(["claim", "verdict", "length", "runs", "evidence", "source"], rows, "llrrll", caption)


def _runs_behind(outcome: Outcome) -> str:
    if outcome.runs is None or not outcome.seeds:
        return count(outcome.runs)
    return f"{count(outcome.runs)} (seed{'s' * (len(outcome.seeds) > 1)} {', '.join(map(str, outcome.seeds))})"


def _commands(outcomes: Sequence[Outcome]) -> list[str]:
    """Each command once, under the claims that it would measure."""
    missing: dict[str, list[str]] = {}
    for outcome in outcomes:
        if outcome.status == "not measured" and outcome.claim.command:
            missing.setdefault(outcome.claim.command, []).append(outcome.claim.id)
    return [f"# {', '.join(claims)}\n{command}" for command, claims in missing.items()]


def _provenance(inputs: ReportInputs) -> list[Block]:
    known = {key: _open_text(value) for key, value in inputs.provenance.items()}
    commands, versions = known.pop("commands", None), known.pop("versions", None)
    facts: list[list[Text]] = [["data", f"{inputs.data['name']}, {_splits(inputs)}"]]
    facts.append(["content of the data store", Code(inputs.data.get("content_hash", "unknown"))])
    order = sorted(known, key=lambda key: (list(PROVENANCE).index(key) if key in PROVENANCE else 99, key))
    facts += [[PROVENANCE.get(key, key), Code(_plain(known[key]))] for key in order]
    if versions:
        facts.append(
            ["versions, of this report", ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))]
        )
    blocks: list[Block] = [Table(["what", "value"], facts, "ll")]
    if absent := [label for key, label in PROVENANCE.items() if key not in known]:
        blocks.append(Paragraph(f"Not recorded: {', '.join(absent)}."))
    if commands:
        lines = [f"# {what}\n{command}" for what, command in commands.items()]
        blocks += [Paragraph("To make it again, from the repository's root:"), Listed("\n\n".join(lines))]
    else:
        blocks.append(Paragraph("The commands that made this report were not recorded."))
    if inputs.nets:
        blocks.append(Fold("Runs and checkpoints", [_runs(inputs)]))
    return blocks


def _splits(inputs: ReportInputs) -> str:
    full = ", ".join(short_name(net) for net in inputs.on_all_images)
    if full and len(inputs.on_all_images) == len(inputs.nets):
        return "split full"
    return f"split holdout; split full: {full}" if full else "split holdout"


def _runs(inputs: ReportInputs) -> Table:
    rows: list[list[Text]] = [
        [
            short_name(net),
            Code(net["run_id"] or "unknown"),
            Code(net.get("checkpoint_sha256", "unknown")),
        ]
        for net in inputs.nets
    ]
    return Table(["net", "run", "sha256 of the checkpoint"], rows, "lll")


def _open_text(value: Any) -> Any:
    """`value` without the user names and passwords that addresses may hold."""
    if isinstance(value, str):
        return PASSWORD.sub("", value)
    if isinstance(value, dict):
        return {key: _open_text(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_open_text(inner) for inner in value]
    return value


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
        return "; ".join(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
