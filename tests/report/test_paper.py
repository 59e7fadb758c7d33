from __future__ import annotations

import shlex
import shutil
from itertools import product
from pathlib import Path

import pytest
from nets import make_model

from pipeline.compose import compose
from pipeline.config import from_dict, with_overrides
from pipeline.learn.models import build_model
from pipeline.report.check_detectors import DETECTOR_CHECKS, IMPROVEMENTS
from pipeline.report.checks import CHECKS
from pipeline.report.counts import COUNTS
from pipeline.report.paper import CLAIMS, DETECTION, NETS, PUBLISHED, Claim
from pipeline.tuning.space import example_points

ROOT = Path(__file__).parents[2]


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


def test_each_printed_error_of_a_net_of_ours_is_a_claim():
    reached = [claim.id for claim in CLAIMS if claim.check == "reaches"]
    assert [i for i in reached if i.startswith("cifar10")] == [
        f"cifar10-resnet{depth}-table-6" for depth in (20, 32, 44, 56, 1202)
    ]  # of 110 layers the best of five is printed, which a claim of its own takes up
    top1 = [i for i in reached if i.startswith("imagenet") and not i.endswith("top5")]
    top5 = [i for i in reached if i.endswith("top5")]
    assert len(top1) == 4 + 7 - 2 + 5  # Tables 2, 3 (two in both), 4
    assert len(top5) == 7 + 5  # Table 2 has none


BOTTLENECKS = {"plain-50", "plain-101"}  # footnote 4's, in no table


def swept(data: str) -> set[str]:
    """Names of the nets in the detectors that the sweep of a data set trains."""
    config = from_dict(compose(ROOT, [f"data={data}"]))
    spaces = config.sweep.space if isinstance(config.sweep.space, list) else [config.sweep.space]
    backbones = [each for space in spaces for each in space.get("model.backbone", [])]
    return {with_overrides(config, {"model.backbone": each}).model.net.name for each in backbones}


def test_claims_name_nets_and_checks_that_exist():
    for claim in CLAIMS:
        nets = {*NETS, *BOTTLENECKS, *(swept(claim.dataset) if claim.dataset in DETECTION else ())}
        assert claim.check in {**CHECKS, **COUNTS, **DETECTOR_CHECKS}
        assert set(claim.nets) <= nets | {"best member", "ensemble", "best", "mean", "std", "runs"}
        assert claim.check not in ("falls", "reaches", "size", "smaller") or set(claim.nets) <= nets
        assert bool(claim.command) == (claim.check != "not_public") or not claim.dataset


def test_published_nets_are_of_their_data_set():
    for result in PUBLISHED:
        if result.of_the_paper:
            assert NETS[result.net].model.small == (result.dataset == "cifar10")
    assert {result.net for result in PUBLISHED if result.net in NETS} >= {"ResNet-34 (A)", "VGG-16", "GoogLeNet"}


def test_plain_bottlenecks_can_be_built():
    for name in BOTTLENECKS:
        depth = int(name.removeprefix("plain-"))
        assert build_model(make_model(depth, residual=False), 10)


def trained_by(config) -> set[str]:
    """Names of the nets that the sweep and the named run of a configuration train, alone or in a detector."""
    points = [{}, *example_points(config.sweep.space)]
    # Of one grid, each key's examples come alone: its points are all their combinations.
    if isinstance(config.sweep.space, dict):
        points += [dict(zip(config.sweep.space, p, strict=True)) for p in product(*config.sweep.space.values())]
    return {with_overrides(config, point).model.net.name for point in points}


def switched(config, key: str) -> bool:
    """Whether the key is on, and for a key of training also off in some trial, with as many seeds of each."""
    section, leaf = key.split(".")
    if section != "model":
        return bool(getattr(getattr(config, section), leaf))
    return set(config.sweep.space[key]) == {True, False} and len(config.sweep.space["seed"]) > 1


def test_a_claims_command_composes_and_trains_its_nets(tmp_path):
    from dvc.utils.hydra import apply_overrides

    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    known = {*NETS, *BOTTLENECKS}
    claims: dict[str, list[Claim]] = {}  # by command: to compose takes longer than to check
    for claim in CLAIMS:
        if claim.command.startswith("dvc exp run"):
            claims.setdefault(claim.command, []).append(claim)
    for command, tested in claims.items():
        words = shlex.split(command)[3:]
        assert words[::2] == ["-S"] * (len(words) // 2)
        shutil.copy(ROOT / "params.yaml", tmp_path)
        apply_overrides(tmp_path / "params.yaml", words[1::2])
        config = from_dict(compose(tmp_path, []))
        trained = trained_by(config)
        for claim in tested:
            wanted = set(claim.nets) & known
            if claim.check in IMPROVEMENTS:
                assert switched(config, IMPROVEMENTS[claim.check][0]), claim.id
            if claim.check == "gradients":  # of each plain net that there is
                wanted &= trained
                assert wanted
            assert wanted <= trained, claim.id
            assert config.evaluation.runs == "all" or len(wanted) <= 1, claim.id
