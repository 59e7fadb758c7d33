"""The page of all published experiments."""

from __future__ import annotations

from typing import Any

from members import ERRORS, MEMBER

from pipeline.report.collection import collection, nets, overview, title
from pipeline.report.document import Fold, Paragraph, Table
from pipeline.report.markdown import to_markdown
from pipeline.report.paper import CLAIMS

DEGRADES = {"id": "cifar10-plain-degrades", "status": "holds", "evidence": "56 > 20", "runs": 2, "length": 0.125}
COUNTED = {"id": "resnet152-below-vgg", "status": "holds", "evidence": "11.3", "runs": None, "length": None}


def result(command: str = "dvc exp run -S data=cifar10", claims: Any = (), **evaluation: Any) -> dict[str, Any]:
    tested = {"members": [MEMBER], "ensemble": {"size": 3, "selection": "top_k", **ERRORS}, **evaluation}
    data = {"name": "cifar10", "classes": ["a", "b"], "counts": {"train": 45, "val": 5, "test": 10}}
    provenance = {"commands": {"the whole experiment": command}}
    told = {"claims": list(claims), "pictures": ["curves"], "provenance": provenance}
    return {"name": "a", "data": data, "evaluation": tested, **told}


def rows(**evaluation: Any) -> list[Any]:
    return list(nets(result(**evaluation)).rows)


def test_the_named_run_has_a_row_unless_it_is_a_member():
    assert [row[0] for row in rows()] == ["ResNet-20", "ensemble of 3"]
    assert [row[0] for row in rows(run=MEMBER)] == ["ResNet-20", "ensemble of 3"]
    other = {**MEMBER, "run_id": "other", "model": "resnet56B", "depth": 56, "val_err1": None}
    assert [row[0] for row in rows(run=other)] == [
        "ResNet-20",
        "ResNet-56 (B) (named run), trained on all images",
        "ensemble of 3",
    ]


def test_rows_hold_minutes_and_both_intervals_where_they_are_known():
    (net, _), (old, _) = rows(members=[{**MEMBER, "seconds": 90.0, "ci95_err5": [0.008, 0.0121]}]), rows()
    assert net[1:] == ["700", "1.5", "25.00%", "25.12%", "24.00 to 26.00%", "1.00%", "0.80 to 1.21%"]
    assert old[2] == "" and old[7] == "–"


def test_an_experiment_is_called_by_what_was_chosen():
    command = (
        "dvc exp run -S data=cifar10 -S sweep=transfer -S ++set.start.weights='run:a b' -S ++set.trainer.compile=true"
    )
    assert title(result(f"{command} -S ++set.evaluation.runs=all")) == "cifar10, sweep=transfer, start.weights=run:a b"


def test_the_best_net_is_the_one_that_validates_best_whatever_its_test_error():
    lucky = {**MEMBER, "model": "resnet56", "depth": 56, "val_err1": 0.3, "test_err1": 0.1, "steps": 900}
    unseen = {**MEMBER, "model": "resnet110", "depth": 110, "val_err1": None}
    (row,) = overview([result(members=[lucky, unseen, MEMBER])]).rows
    assert row[1:5] == ["3", "700 to 900", "ResNet-20", "25.12% (24.00 to 26.00%)"]
    (alone,) = overview([result(members=[unseen], ensemble=None)]).rows
    assert alone[3:7] == ["ResNet-110", "25.12% (24.00 to 26.00%)", "–", "–"]


def test_each_claim_is_told_once_with_every_experiment_that_measured_it():
    eighth = result("dvc exp run -S data=cifar10 -S recipe=cifar_eighth", [DEGRADES, COUNTED])
    quarter = result("dvc exp run -S data=cifar10 -S recipe=cifar_quarter", [{**DEGRADES, "status": "fails"}, COUNTED])
    section = collection([eighth, quarter]).sections[0]
    text, table, rest = section.blocks
    assert isinstance(text, Paragraph) and f"2 of {len(CLAIMS)} claims" in str(text.text)
    assert isinstance(table, Table) and [(row[1].status, row[2], row[3]) for row in table.rows] == [
        ("holds", "cifar10, recipe=cifar_eighth", "12%"),
        ("fails", "cifar10, recipe=cifar_quarter", "12%"),
        ("holds", "", ""),
    ]
    assert [bool(row[0]) for row in table.rows] == [True, False, True]
    assert isinstance(rest, Fold) and rest.summary.startswith(f"{len(CLAIMS) - 2} claims not measured")
    missing = rest.blocks[0].text
    assert "cifar10-resnet110-seeds" in missing and "cifar10-plain-degrades," not in missing


def test_the_page_says_what_was_not_recorded():
    page = to_markdown(collection([result()]))
    assert "hardware not recorded" in page and "![learning curves of cifar10](a/curves.png)" in page
