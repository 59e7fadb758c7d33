"""Where a report's numbers come from: data, commits, hardware, versions, commands, runs and checkpoints."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pipeline.credentials import redacted
from pipeline.report import markdown as md
from pipeline.report.inputs import Results

PROVENANCE = {
    "git_commit": "git commit of the runs",
    "dvc_lock": "dvc.lock at the runs",
    "date": "date of the runs",
    "host": "hardware of the runs",
    "tracking_uri": "tracking server",
}


def provenance(inputs: Results) -> list[md.Block]:
    """Tables and commands; what was not recorded is named."""
    facts = dict(inputs.provenance)
    makers, versions, _ = (facts.pop(key, None) for key in ("commands", "versions", "attempts"))
    rows = [["data", f"{inputs.data['name']}, {_splits(inputs)}"]]
    rows.append(["content of the data store", md.code(inputs.data.get("content_hash", "unknown"))])
    order = sorted(facts, key=lambda key: (list(PROVENANCE).index(key) if key in PROVENANCE else 99, key))
    rows += [[PROVENANCE.get(key, key), md.code(_plain(facts[key]))] for key in order]
    if versions:
        packages = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
        rows.append(["versions, of this report", packages])
    blocks: list[md.Block] = [md.table(["what", "value"], rows, "ll")]
    if absent := [label for key, label in PROVENANCE.items() if key not in facts]:
        blocks.append(md.paragraph(f"Not recorded: {', '.join(absent)}."))
    if makers:
        lines = [f"# {what}\n{command}" for what, command in makers.items()]
        blocks += [md.paragraph("To repeat it, in the repository's root:"), md.listing("\n\n".join(lines))]
    else:
        blocks.append(md.paragraph("The commands behind this report were not recorded."))
    if inputs.nets:
        runs = [
            [n.name, md.code(n.run_id or "unknown"), md.code(n.checkpoint_sha256 or "unknown")] for n in inputs.nets
        ]
        blocks.append(
            md.fold("Runs and checkpoints", md.table(["net", "run", "sha256 of the checkpoint"], runs, "lll"))
        )
    return [*blocks, *attempts(inputs)]


def attempts(inputs: Results) -> list[md.Block]:
    """The attempts of the nets whose training was interrupted, folded; nothing where none was."""
    interrupted: Mapping[str, Any] = inputs.provenance.get("attempts", {})
    rows = [
        [net.name, md.number(net.seed), md.count(number), md.count(step), began]
        for net in inputs.nets
        for number, step, began in interrupted.get(net.key, ())
    ]
    header = ["net", "seed", "attempt", "began at step", "began (UTC)"]
    return [md.fold("Attempts of interrupted trainings", md.table(header, rows, "lrrrl"))] if rows else []


def _splits(inputs: Results) -> str:
    full = ", ".join(net.name for net in inputs.on_all_images)
    if full and len(inputs.on_all_images) == len(inputs.nets):
        return "split full"
    return f"split holdout; split full: {full}" if full else "split holdout"


def _plain(value: Any) -> str:
    if isinstance(value, list) and all(isinstance(inner, str) for inner in value):
        value = "; ".join(value)
    return redacted(value if isinstance(value, str) else json.dumps(value, sort_keys=True))
