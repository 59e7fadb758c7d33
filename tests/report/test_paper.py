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
from pipeline.report.paper import CLAIMS, DETECTION, NETS, PAPER_ENSEMBLE, PUBLISHED, Claim
from pipeline.tuning.space import example_points

ROOT = Path(__file__).parents[2]


def published(net: str, reference: str) -> float:
    (result,) = (r for r in PUBLISHED if r.net == net and r.reference == reference)
    return result.err1


# Copied from the paper's tables, from a reading of its figure, and from the README of the authors' models.
PRINTED = {
    "Table 2": {"plain-18": "27.94%", "ResNet-18 (A)": "27.88%"},  # Table 3 has the nets of 34 layers again
    "Table 3": {
        "VGG-16": "28.07 / 9.33%", "GoogLeNet": "– / 9.15%", "PReLU-net": "24.27 / 7.38%",
        "plain-34": "28.54 / 10.02%", "ResNet-34 (A)": "25.03 / 7.76%", "ResNet-34 (B)": "24.52 / 7.46%",
        "ResNet-34 (C)": "24.19 / 7.40%", "ResNet-50": "22.85 / 6.71%", "ResNet-101": "21.75 / 6.05%",
        "ResNet-152": "21.43 / 5.71%",
    },
    "Table 4": {
        "VGG (ILSVRC'14)": "– / 8.43%", "GoogLeNet (ILSVRC'14)": "– / 7.89%", "VGG (v5)": "24.40 / 7.10%",
        "PReLU-net": "21.59 / 5.71%", "BN-inception": "21.99 / 5.81%", "ResNet-34 (B)": "21.84 / 5.71%",
        "ResNet-34 (C)": "21.53 / 5.60%", "ResNet-50": "20.74 / 5.25%", "ResNet-101": "19.87 / 4.60%",
        "ResNet-152": "19.38 / 4.49%",
    },
    "Table 5": {
        "VGG (ILSVRC'14), ensemble": "– / 7.32%", "GoogLeNet (ILSVRC'14), ensemble": "– / 6.66%",
        "VGG (v5), ensemble": "– / 6.80%", "PReLU-net, ensemble": "– / 4.94%",
        "BN-inception, ensemble": "– / 4.82%", "ensemble of six": "– / 3.57%",
    },
    "Table 6": {
        "Maxout": "9.38%", "NIN": "8.81%", "DSN": "8.22%", "FitNet-19": "8.39%", "Highway-19": "7.54%",
        "Highway-32": "8.80%", "ResNet-20": "8.75%", "ResNet-32": "7.51%", "ResNet-44": "7.17%",
        "ResNet-56": "6.97%", "ResNet-110": "6.43%", "ResNet-1202": "7.93%",
    },
    "Fig. 6": {"plain-20": "≈9.5%", "plain-32": "≈10%", "plain-44": "≈12%", "plain-56": "≈13.5%"},
    "released models": {"ResNet-50": "24.70 / 7.80%", "ResNet-101": "23.60 / 7.10%", "ResNet-152": "23.00 / 6.70%"},
}  # fmt: skip
# Numbers of claims that are no net's error in a table.
CLAIMED = {
    "ensemble-beats-best-member-top5": {"best member": 4.49, "ensemble": 3.57},
    "cifar10-plain-110-fails": {"plain-110": 60},
    "cifar10-resnet110-seeds": {"best": 6.43, "mean": 6.61, "std": 0.16, "runs": 5},
    "cifar10-warm-up-ends": {"lr": 0.01, "steps": 400, "error": 80},
    "cifar10-resnet110-without-warm-up": {"error": 90},
    "cifar10-resnet1202-trains": {"ResNet-1202": 0.1},
    "imagenet-residual-gain-of-depth": {"gain": 2.8},
    "imagenet-residual-gain-over-plain": {"gain": 3.5},
    "imagenet-single-beats-ensembles": {"best earlier ensemble": 4.82},
    "imagenet-ensemble-top5": {"ensemble": 3.57},
    "voc-2007-map": {"VGG-16": 73.2, "ResNet-101": 76.4},
    "voc-2012-map": {"VGG-16": 70.4, "ResNet-101": 73.8},
    "coco-ap": {"VGG-16": 21.2, "ResNet-101": 27.2},
    "coco-ap50": {"VGG-16": 41.5, "ResNet-101": 48.4},
    "coco-relative-gain": {"gain": 28},
    "coco-box-refinement": {"AP": 29.9, "AP50": 49.9},
    "coco-global-context": {"AP": 30.0, "AP50": 51.1},
    "coco-multi-scale-testing": {"AP": 32.5, "AP50": 53.8},
    "coco-ensemble": {"AP": 37.4, "AP50": 59.0},
    "table-1-flops": {
        "ResNet-18 (A)": 1.8e9, "ResNet-34 (A)": 3.6e9, "ResNet-50": 3.8e9,
        "ResNet-101": 7.6e9, "ResNet-152": 11.3e9,
    },
    "table-6-params": {
        "ResNet-20": 0.27e6, "ResNet-32": 0.46e6, "ResNet-44": 0.66e6, "ResNet-56": 0.85e6,
        "ResNet-110": 1.7e6, "ResNet-1202": 19.4e6,
    },
    "resnet152-below-vgg": {"VGG-19": 19.6e9, "VGG-16": 15.3e9, "ResNet-152": 11.3e9},
    "plain34-is-a-fifth-of-vgg19": {"plain-34": 18},
    "table-6-thinner": {"FitNet-19": 2.5e6, "Highway-19": 2.3e6},
    "bottleneck-projection-doubles": {"factor": 2},
    "option-c-adds-thirteen": {"projections": 13},
}  # fmt: skip


def test_results_and_claims_have_the_papers_numbers():
    found: dict[str, dict[str, str]] = {}
    for result in (*PUBLISHED, PAPER_ENSEMBLE):
        found.setdefault(result.reference, {})[result.net] = result.printed
    assert found == PRINTED
    of_tables = {(result.net, error) for result in PUBLISHED for error in (result.err1, result.err5)}
    assert {claim.id: claim.paper for claim in CLAIMS if not claim.paper.items() <= of_tables} == CLAIMED


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


def grids_of(config) -> list:
    space = config.sweep.space
    return [space] if isinstance(space, dict) else space


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
            if claim.check in ("detects_better", "detects_by"):  # of a gain, one seed settles nothing
                assert all(len(grid["seed"]) > 1 for grid in grids_of(config)), claim.id
            if claim.check == "gradients":  # of each plain net that there is
                wanted &= trained
                assert wanted
            assert wanted <= trained, claim.id
            assert config.evaluation.runs == "all" or len(wanted) <= 1, claim.id
