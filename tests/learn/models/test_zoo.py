"""The list of nets, their names, and the table printed from it."""

import json

import pytest
from nets import make_model

from pipeline.learn.models.__main__ import main
from pipeline.learn.models.zoo import NETS


@pytest.mark.parametrize(
    ("family", "depth", "choices", "name"),
    [
        ("cifar", 56, {}, "ResNet-56"),
        ("cifar", 20, {"residual": False}, "plain-20"),
        ("cifar", 20, {"residual": False, "shortcut": "B"}, "plain-20"),
        ("cifar", 20, {"stride_on": "3x3"}, "ResNet-20"),
        ("cifar", 20, {"shortcut": "B"}, "ResNet-20 (B)"),
        ("cifar", 50, {}, "ResNet-50 (CIFAR)"),
        ("imagenet", 34, {}, "ResNet-34 (A)"),
        ("imagenet", 34, {"shortcut": "C"}, "ResNet-34 (C)"),
        ("imagenet", 34, {"shortcut": "B", "stride_on": "3x3"}, "ResNet-34 (B)"),
        ("imagenet", 50, {}, "ResNet-50"),
        ("imagenet", 50, {"shortcut": "A", "stride_on": "3x3"}, "ResNet-50 (A, v1.5)"),
        ("imagenet", 50, {"residual": False, "stride_on": "3x3"}, "plain-50 (v1.5)"),
        ("vgg", 16, {}, "VGG-16"),
        ("vgg_bn_small", 19, {}, "VGG-19 (BN, small)"),
        ("alexnet", 8, {}, "AlexNet"),
    ],
)
def test_the_name_shows_what_differs_from_the_paper(family, depth, choices, name):
    assert make_model(depth, family=family, **choices).name == name


def test_json_lists_every_net_with_its_cost(capsys):
    main(["--json"])
    rows = json.loads(capsys.readouterr().out)
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == [net.name for net in NETS]
    assert all({"family", "depth", "residual", "shortcut", "params", "macs"} <= set(row) for row in rows)
    assert by_name["ResNet-110"]["params"] == 1_727_962
    assert by_name["plain-20"]["residual"] is False and by_name["plain-20"]["shortcut"] is None


def test_table_fits_80_columns_and_truncates_nothing(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    main([])
    out = capsys.readouterr().out
    assert "…" not in out and max(map(len, out.splitlines())) <= 80
    for figure in ("19,421,274", "19.4M", "11,282.416M", "11.3×10^9", "ResNet-152 (v1.5)"):
        assert figure in out
