"""The list of nets, their names, and the table printed from it."""

import json

import pytest

from pipeline.learn.models import net_name
from pipeline.learn.models.__main__ import main
from pipeline.learn.models.zoo import NETS


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("cifar", 56), "resnet56"),
        (("cifar", 20, False), "plain20"),
        (("cifar", 20, False, "B"), "plain20"),
        (("cifar", 20, True, "A", "3x3"), "resnet20"),
        (("cifar", 20, True, "B"), "resnet20B"),
        (("cifar", 50), "cifar_resnet50"),
        (("imagenet", 34, True, "A"), "resnet34"),
        (("imagenet", 34, True, "C"), "resnet34C"),
        (("imagenet", 34, True, "B", "3x3"), "resnet34B"),
        (("imagenet", 50, True, "B"), "resnet50"),
        (("imagenet", 50, True, "A", "3x3"), "resnet50A_v1.5"),
        (("imagenet", 50, False, None, "3x3"), "plain50_v1.5"),
        (("vgg", 16), "vgg16"),
        (("vgg_bn_small", 19), "vgg19_bn_small"),
        (("alexnet", 8), "alexnet"),
    ],
)
def test_name_says_what_differs_from_the_paper(arguments, expected):
    assert net_name(*arguments) == expected


def test_json_lists_every_net_with_its_cost(capsys):
    main(["--json"])
    rows = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in rows] == [net.name for net in NETS]
    wanted = {"name", "family", "depth", "residual", "shortcut", "params", "macs"}
    assert all(wanted <= set(row) for row in rows)
    by_name = {row["name"]: row for row in rows}
    assert len(by_name) == len(rows) == 37
    assert by_name["resnet110"]["params"] == 1_727_962
    assert by_name["plain20"]["residual"] is False and by_name["plain20"]["shortcut"] is None


def test_table_fits_80_columns_and_truncates_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main([])
    out = capsys.readouterr().out
    assert "…" not in out and max(map(len, out.splitlines())) <= 80
    for figure in ("19,421,274", "19.4M", "11,282.416M", "11.3×10^9", "resnet152_v1.5"):
        assert figure in out
