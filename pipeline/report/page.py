"""The report as files: report.md, index.html rendered from it, figures/*.png, claims.json."""

from __future__ import annotations

import base64
import html
import json
import re
import struct
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.atomic import replacing, write_json
from pipeline.report import sections
from pipeline.report.claims import applies, assess, commands
from pipeline.report.comparison import comparison
from pipeline.report.cost import error_against_cost, transfer
from pipeline.report.inputs import ReportInputs
from pipeline.report.markdown import (
    Block,
    Document,
    Markdown,
    Section,
    code,
    count,
    fold,
    listing,
    paragraph,
    percent,
    strong,
    table,
)
from pipeline.report.outcome import STATUSES, Outcome
from pipeline.report.paper import PROTOCOLS, TITLE
from pipeline.report.theme import DARK, DPI, LIGHT, render

Images = Mapping[str, Mapping[str, bytes]]  # figure -> theme (light, dark) -> PNG
PROVENANCE = {
    "git_commit": "git commit of the runs",
    "dvc_lock": "dvc.lock at the runs",
    "date": "date of the runs",
    "host": "hardware of the runs",
    "tracking_uri": "tracking server",
}
PASSWORD = re.compile(r"(?<=://)[^/@\s]+@")
FIGURE = re.compile(r"figures/(.+)\.png")


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
        (part / "report.md").write_text(str(document), encoding="utf-8")
        claims = [outcome.to_json() for outcome in outcomes]
        write_json(part / "claims.json", {"data": inputs.data["name"], "claims": claims})
    return Path(out) / "index.html"


def compose(inputs: ReportInputs, outcomes: Sequence[Outcome]) -> Document:
    """The report before it is written."""
    name = inputs.data["name"]
    title = PROTOCOLS[name].title if name in PROTOCOLS else name
    parts = [
        ("summary", "Summary", sections.headline(inputs)),
        ("nets", "Nets and ensemble", sections.nets(inputs)),
        ("cost", "Error against cost", error_against_cost(inputs)),
        ("curves", "Learning curves", sections.curves(inputs)),
        ("layers", "Layer responses", sections.layers(inputs)),
        ("transfer", "Transfer", transfer(inputs)),
        ("sweep", "Sweep", sections.sweep(inputs)),
        ("classes", "Classes", sections.classes(inputs)),
        ("paper", "Beside the paper", comparison(inputs)),
        ("claims", "The paper's claims", _claims(inputs, outcomes)),
        ("provenance", "Provenance", _provenance(inputs)),
    ]
    return Document(f"ResNet on {title}", f"A reproduction of {TITLE}", [Section(*part) for part in parts])


def to_html(document: Document, images: Images) -> str:
    """One self-contained file that loads nothing; `images` holds both themes of every figure of the document."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(loader=PackageLoader("pipeline.report", "."), autoescape=True)
    bodies = {section.anchor: _rendered(section.body, images) for section in document.sections}
    return environment.get_template("page.html").render(document=document, bodies=bodies, light=LIGHT, dark=DARK)


def _rendered(markdown: str, images: Images) -> str:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    tokens = parser.parse(markdown)
    for opening, inline in pairwise(tokens):
        if inline.type != "inline" or not inline.children:
            continue
        children = inline.children
        picture = FIGURE.fullmatch(str(children[0].attrs.get("src", "")))
        if picture:
            children[0].type = "html_inline"
            children[0].content = _picture(images[picture[1]], children[0].content)
        elif opening.type == "paragraph_open" and (children[0].type, children[-1].type) == ("em_open", "em_close"):
            opening.attrSet("class", "caption")
        for mark, text in pairwise(children):
            if mark.type == "strong_open" and text.content in STATUSES:
                mark.attrSet("class", f"verdict {text.content.replace(' ', '-')}")
    return str(parser.renderer.render(tokens, parser.options, {}))


def _picture(themes: Mapping[str, bytes], alt: str) -> str:
    """Width and height are given so that text is equally large in all figures and nothing moves while loading."""
    width, height = (round(pixels * 96 / DPI) for pixels in struct.unpack(">II", themes["light"][16:24]))
    light, dark = ("data:image/png;base64," + base64.b64encode(themes[name]).decode() for name in ("light", "dark"))
    return (
        f'<picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{html.escape(alt)}" width="{width}" height="{height}" style="--natural: {width}px"></picture>'
    )


def _claims(inputs: ReportInputs, outcomes: Sequence[Outcome]) -> list[Block]:
    near = [outcome for outcome in outcomes if applies(outcome.claim, inputs.data["name"])]
    far = [outcome for outcome in outcomes if outcome not in near]
    tally = ", ".join(f"{status}: {sum(o.status == status for o in near)}" for status in STATUSES)
    blocks: list[Block] = [
        paragraph(
            f"Each verdict is computed from the runs above ({tally}). A comparison is judged by its estimate, among nets "
            "trained for as long as each other, and the text says where its interval includes zero. A published error counts "
            "as reached unless our whole interval lies above it; it takes nets trained for the paper's number of steps."
        ),
        _claims_table(near),
    ]
    if missing := commands(outcome.claim for outcome in near if outcome.status == "not measured"):
        blocks += [paragraph("What would measure the rest:"), listing(missing)]
    return [*blocks, fold("Claims about other data sets", _claims_table(far))] if far else blocks


def _claims_table(outcomes: Sequence[Outcome]) -> Markdown:
    rows = [
        [
            outcome.claim.statement,
            strong(outcome.status),
            "" if outcome.length is None else percent(outcome.length, 0),
            _runs_behind(outcome),
            outcome.evidence,
            outcome.claim.reference,
        ]
        for outcome in outcomes
    ]
    caption = "Length: steps of the shortest training behind the verdict, of the paper's."
    return table(["claim", "verdict", "length", "runs", "evidence", "source"], rows, "llrrll", caption)


def _runs_behind(outcome: Outcome) -> str:
    if outcome.runs is None or not outcome.seeds:
        return count(outcome.runs)
    return f"{count(outcome.runs)} (seed{'s' * (len(outcome.seeds) > 1)} {', '.join(map(str, outcome.seeds))})"


def _provenance(inputs: ReportInputs) -> list[Block]:
    facts = {key: _without_passwords(value) for key, value in inputs.provenance.items()}
    makers, versions = facts.pop("commands", None), facts.pop("versions", None)
    rows = [["data", f"{inputs.data['name']}, {_splits(inputs)}"]]
    rows.append(["content of the data store", code(inputs.data.get("content_hash", "unknown"))])
    order = sorted(facts, key=lambda key: (list(PROVENANCE).index(key) if key in PROVENANCE else 99, key))
    rows += [[PROVENANCE.get(key, key), code(_plain(facts[key]))] for key in order]
    if versions:
        packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        rows.append(["versions, of this report", packages])
    blocks: list[Block] = [table(["what", "value"], rows, "ll")]
    if absent := [label for key, label in PROVENANCE.items() if key not in facts]:
        blocks.append(paragraph(f"Not recorded: {', '.join(absent)}."))
    if makers:
        lines = [f"# {what}\n{command}" for what, command in makers.items()]
        blocks += [paragraph("To make it again, from the repository's root:"), listing("\n\n".join(lines))]
    else:
        blocks.append(paragraph("The commands that made this report were not recorded."))
    if inputs.nets:
        runs = [[n.name, code(n.run_id or "unknown"), code(n.checkpoint_sha256 or "unknown")] for n in inputs.nets]
        blocks.append(fold("Runs and checkpoints", table(["net", "run", "sha256 of the checkpoint"], runs, "lll")))
    return blocks


def _splits(inputs: ReportInputs) -> str:
    full = ", ".join(net.name for net in inputs.on_all_images)
    if full and len(inputs.on_all_images) == len(inputs.nets):
        return "split full"
    return f"split holdout; split full: {full}" if full else "split holdout"


def _without_passwords(value: Any) -> Any:
    """`value` without the user names and passwords that addresses may hold."""
    if isinstance(value, str):
        return PASSWORD.sub("", value)
    if isinstance(value, dict):
        return {key: _without_passwords(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_passwords(inner) for inner in value]
    return value


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
        return "; ".join(value)
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)
