"""The table of docs/reliability.md, and the record from which it is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

from pipeline.atomic import read_json, replacing, write_json

BEGIN, END = "<!-- made by make reliability -->", "<!-- end -->"


@dataclass(frozen=True)
class Row:
    campaign: str
    fault: str
    promise: str
    tried: int
    kept: int  # ended as promised
    seed: int
    seconds: float
    failures: tuple[str, ...] = ()
    day: str = ""


def write_rows(page: Path, rows: Sequence[Row], order: Sequence[str]) -> None:
    """Replaces the campaigns' rows in the table between the marks of `page`, and keeps those of the others."""
    record = page.with_suffix(".json")
    earlier = [Row(**row) for row in read_json(record)["rows"]] if record.exists() else []
    new = {row.campaign for row in rows}
    today = date.today().isoformat()
    kept = [row for row in earlier if row.campaign not in new]
    merged = kept + [Row(**{**asdict(row), "day": today}) for row in rows]
    merged.sort(key=lambda row: order.index(row.campaign) if row.campaign in order else len(order))
    write_json(record, {"rows": [asdict(row) for row in merged]})
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    with replacing(page) as part:
        part.write_text(f"{before}{BEGIN}\n{table(merged, order)}\n{END}{after}", encoding="utf-8")


def table(rows: Sequence[Row], order: Sequence[str]) -> str:
    """Rows as a Markdown table; below it the failures, and the campaigns of `order` that no row is from."""
    lines = [
        "| fault or input | tried | as promised | promise | seed | day |",
        "| --- | ---: | ---: | --- | --- | --- |",
        *(f"| {row.fault} | {row.tried:,} | {row.kept:,} | {row.promise} | {row.seed} | {row.day} |" for row in rows),
        f"| all | {sum(row.tried for row in rows):,} | {sum(row.kept for row in rows):,} | | | |",
    ]
    failures = [f"- {row.fault}: {line}" for row in rows for line in row.failures]
    missing = [name for name in order if name not in {row.campaign for row in rows}]
    return "\n".join(
        [
            *lines,
            *(["", "Not as promised:", "", *failures] if failures else []),
            *(["", f"Not run to their end yet: {', '.join(missing)}."] if missing else []),
        ]
    )
