"""The table of docs/reliability.md."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from imports import ROOT

from pipeline.atomic import read_json
from reliability.__main__ import CAMPAIGNS
from reliability.table import BEGIN, END, Row, table, write_rows

PUBLISHED = ROOT / "docs" / "reliability.md"


def row(campaign: str, kept: int, *failures: str) -> Row:
    return Row(campaign, f"faults of {campaign}", "nothing is lost", 10, kept, 1, 2.0, failures)


def test_campaigns_that_do_not_run_keep_their_rows_and_failures_are_listed(tmp_path: Path) -> None:
    page = tmp_path / "reliability.md"
    page.write_text(f"# Before\n{BEGIN}\n{END}\nafter\n")
    write_rows(page, [row("kills", 9, "SIGKILL: lost")], ["kills", "http"])
    assert "Not run to their end yet: http." in page.read_text()
    write_rows(page, [row("http", 10)], ["kills", "http"])
    text = page.read_text()
    assert (
        text.index("faults of kills | 10 | 9 |")
        < text.index("faults of http | 10 | 10 |")
        < text.index("all | 20 | 19")
    )
    assert (
        "faults of kills: SIGKILL: lost" in text
        and text.startswith("# Before")
        and text.endswith("after\n")
        and "Not run" not in text
    )
    write_rows(page, [row("kills", 10)], ["kills", "http"])
    assert "lost" not in page.read_text().split(BEGIN)[1].replace("nothing is lost", "")


@pytest.fixture
def published() -> list[Row]:
    rows: list[dict[str, Any]] = read_json(PUBLISHED.with_suffix(".json"))["rows"]
    return [Row(**row) for row in rows]


def test_the_published_table_is_that_of_its_record(published: list[Row]) -> None:
    assert f"{BEGIN}\n{table(published, CAMPAIGNS)}\n{END}" in PUBLISHED.read_text()


def test_published_promises_are_those_that_campaigns_check(published: list[Row]) -> None:
    for row in published:
        promise = import_module(f"reliability.{row.campaign}").PROMISE
        assert row.promise == (promise if isinstance(promise, str) else promise[row.fault])
