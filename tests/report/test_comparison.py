from __future__ import annotations

import dataclasses

from pipeline.report.comparison import comparison
from pipeline.report.document import Listing, Table


def rows(inputs) -> dict[tuple[str, str], list[str]]:
    """Of the table beside the paper: the other cells by net and source."""
    (table,) = (block for block in comparison(inputs) if isinstance(block, Table))
    return {(row[0], row[1].split(",")[0]): list(row[2:]) for row in table.rows}


def with_models(inputs, *names):
    members = [{**net, "model": name} for net, name in zip(inputs.members, names, strict=True)]
    return dataclasses.replace(inputs, evaluation={**inputs.evaluation, "members": members}, curves=())


def test_a_net_stands_beside_the_papers_of_the_same_option_alone(make_sample):
    inputs = with_models(make_sample(name="imagenet", depths=(34,), plain=(), steps=600_000), "resnet34B")
    found = rows(inputs)
    evaluated = {net for net, cells in found.items() if net[0].startswith("ResNet-34") and cells[1] != "not evaluated"}
    assert evaluated == {("ResNet-34 (B)", "Table 3"), ("ResNet-34 (B)", "Table 4")}
    assert " / " in found["ResNet-34 (B)", "Table 3"][2]  # intervals of top-1 and of top-5


def test_nets_that_the_paper_has_no_error_of_are_named(make_sample):
    inputs = with_models(
        make_sample(name="imagenet", depths=(18, 50), plain=(), steps=600_000), "resnet18B", "resnet50_v1.5"
    )
    assert all(cells[1] == "not evaluated" for net, cells in rows(inputs).items() if net[0] == "ResNet-50")
    items = [item for block in comparison(inputs) if isinstance(block, Listing) for item in block.items]
    assert any(item.endswith("ResNet-110, ResNet-18 (B), ResNet-50 (v1.5).") for item in items)
