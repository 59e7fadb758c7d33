from __future__ import annotations

import pytest

from pipeline.report.paper import CLAIMS, PUBLISHED


def published(net: str, reference: str) -> float:
    (result,) = (r for r in PUBLISHED if r.net == net and r.reference == reference)
    return result.err1


def test_table_6_errors_fall_with_depth_up_to_110_layers():
    errors = [published(f"ResNet-{depth}", "Table 6") for depth in (20, 32, 44, 56, 110)]
    assert errors == sorted(errors, reverse=True)
    assert published("ResNet-1202", "Table 6") > errors[-1]


def test_imagenet_errors_agree_with_the_papers_own_differences():
    # Sec. 4.1: "the 34-layer ResNet is better than the 18-layer ResNet (by 2.8%)", and than its plain one by 3.5%.
    resnet34 = published("ResNet-34 (A)", "Table 3")
    assert published("ResNet-18 (A)", "Table 2") - resnet34 == pytest.approx(2.8, abs=0.06)
    assert published("plain-34", "Table 3") - resnet34 == pytest.approx(3.5, abs=0.06)


def test_readings_of_figures_are_marked():
    for result in PUBLISHED:
        assert result.read_off == result.reference.startswith("Fig")
        assert result.printed.startswith("≈") == result.read_off
        assert not result.read_off or "one reader" in result.note


def test_a_claim_of_an_error_exists_for_each_net_once():
    reached = [claim.id for claim in CLAIMS if claim.kind == "reaches"]
    assert [i for i in reached if i.startswith("cifar10")] == [
        f"cifar10-resnet{depth}-error" for depth in (20, 32, 44, 56, 110, 1202)
    ]
    assert [i for i in reached if i.startswith("imagenet")] == [
        f"imagenet-resnet{depth}-error" for depth in (18, 34, 50, 101, 152)
    ]


def test_published_nets_have_the_names_of_our_models():
    from pipeline.models import net_name

    for result in PUBLISHED:
        if result.depth is not None:
            family = "cifar" if result.dataset == "cifar10" else "imagenet"
            shortcut = result.shortcut or None  # the default is the paper's
            assert result.model == net_name(family, result.depth, result.residual, shortcut)
