"""The table of docs/cluster.md: a line for each case, with what its last run came to."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import pytest

from pipeline.atomic import read_json, replacing, write_json

BEGIN, END = "<!-- made by make test-cluster -->", "<!-- end -->"


@dataclass(frozen=True)
class Case:
    title: str
    outcome: str
    seconds: float  # of the whole case, with the making of hosts left out
    day: str = ""


def case_of(report: pytest.TestReport) -> Case:
    """The case of a test's call; its outcome is the figures that the test has noted, or that it failed."""
    noted = "; ".join(str(value) for name, value in report.user_properties if name == "figures")
    title = report.nodeid.split("::")[-1].removeprefix("test_").replace("_", " ").replace("[", ", ").rstrip("]")
    title = title.replace(" one of which", ", one of which")
    return Case(title, noted if report.passed else "**failed**", report.duration)


def write_cases(page: Path, cases: list[Case]) -> None:
    """Replaces these cases in the table between the marks of `page`, and keeps the others."""
    record = page.with_suffix(".json")
    rows = {row["title"]: Case(**row) for row in read_json(record)["cases"]} if record.exists() else {}
    rows |= {case.title: Case(**{**asdict(case), "day": date.today().isoformat()}) for case in cases}
    write_json(record, {"cases": [asdict(row) for row in rows.values()]})
    lines = ["| fault | what it came to | seconds | day |", "| --- | --- | ---: | --- |"]
    lines += [f"| {row.title} | {row.outcome} | {row.seconds:.0f} | {row.day} |" for row in rows.values()]
    before, rest = page.read_text().split(BEGIN)
    with replacing(page) as part:
        part.write_text("\n".join([f"{before}{BEGIN}", *lines, f"{END}{rest.split(END)[1]}"]))
