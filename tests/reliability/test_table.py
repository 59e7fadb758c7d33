"""The table of docs/reliability.md."""

from __future__ import annotations

from pathlib import Path

from reliability.table import BEGIN, END, Row, write_rows


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
