"""The report of detectors: its files, its sentences, its verdicts and its pictures."""

from __future__ import annotations

import base64
import io
import json
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from browser import CHROMIUM, measured
from detector_samples import (
    DIGITS,
    make_coco_sample,
    make_detection_sample,
    make_entry,
    make_gain,
    make_scene,
    with_evaluation,
)
from nets import make_net
from pages import figures, is_picture, texts
from PIL import Image
from samples import make_sample

from pipeline.ensemble.selection import RULES
from pipeline.errors import PipelineError
from pipeline.report import page
from pipeline.report.check_detectors import assess_detectors
from pipeline.report.checks import assess
from pipeline.report.detection import build_detection_report, compose_detection
from pipeline.report.detector_classes import detector_classes
from pipeline.report.detector_curves import detector_curves
from pipeline.report.detector_gain import detector_gain
from pipeline.report.detector_nets import detectors
from pipeline.report.nets import summary_table
from pipeline.report.paper import CLAIMS, DETECTION
from pipeline.report.scenes import drawn, scenes
from pipeline.report.theme import DARK, LIGHT

CLAIM = "digit-scenes-residual-detects-better"
MORE, UNSURE, LESS = (0.0089, 0.0301, 0.0527), (-0.0061, 0.0301, 0.0642), (-0.0527, -0.0301, -0.0089)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    inputs = make_detection_sample(classes=["0", "<b> a class of a longer name", *DIGITS[2:]])
    return inputs, build_detection_report(inputs, tmp_path_factory.mktemp("report") / "report").parent


def outcome(inputs, claim):
    return next(result for result in assess_detectors(inputs) if result.claim.id == claim)


def written(inputs) -> str:
    return str(compose_detection(inputs, assess_detectors(inputs))).replace("\\", "")


def test_same_inputs_give_the_same_bytes_in_the_same_files(built, tmp_path):
    inputs, first = built
    second = build_detection_report(inputs, tmp_path / "again").parent
    files = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(second) for path in second.rglob("*") if path.is_file())
    assert all((first / file).read_bytes() == (second / file).read_bytes() for file in files)
    drawn_ones = {
        f"{name}{theme}.png" for name in ("detectors", "gain", "curves", "classes") for theme in ("", "-dark")
    }
    assert {path.name for path in (first / "figures").iterdir()} == drawn_ones | {"scene-3.svg", "scene-7.svg"}
    links = re.findall(r"\]\((figures/[^)]+)\)", (first / "report.md").read_text())
    assert len(links) == 6 and all((first / link).is_file() for link in links)


def test_a_report_replaces_the_old_one_whole_or_leaves_it(tmp_path, monkeypatch):
    inputs, out = replace(make_detection_sample(scenes=[]), curves=()), tmp_path / "report"
    (out / "figures").mkdir(parents=True)
    (out / "old").write_text("old")
    monkeypatch.setattr(page, "to_html", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        build_detection_report(inputs, out)
    assert [path.name for path in tmp_path.iterdir()] == ["report"] and (out / "old").exists()


def test_the_page_loads_nothing_and_escapes_names(built):
    text = (built[1] / "index.html").read_text()
    addresses = re.findall(r'(?:href|src|srcset)="([^"]*)"', text)
    assert addresses and all(address.startswith(("data:image/png;base64,", "#")) for address in addresses)
    assert "<script" not in text and "url(" not in text and "<b>" not in text and "&lt;b&gt; a class" in text


def test_numbers_on_the_page_are_the_inputs():
    text = written(make_detection_sample())
    # AP and AP50 with intervals, validation, lr, seed, steps, parameters
    best = "ResNet-14 | 43.6% | 41.7 to 45.8% | 73.7% | 71.7 to 75.7% | 44.6% | 0.1 | 2 | 450 | 0.32M |"
    assert best in text
    assert "**ensemble of 2** | **44.8%** | **42.8 to 46.7%** | **74.9%** | **72.8 to 76.8%**" in text
    assert "ResNet-14 (named run) | 42.6%" in text and "plain-14 | 39.6%" in text
    assert "- Ensemble, AP\n  **44.8%**" in text and "- Best member, AP\n  **43.6%**" in text
    assert (
        "- Relative gain in AP\n  **+7.50%**\n  ResNet-14 for plain-14, 95% interval 2.22 to 13.14%; the paper 28%"
        in text
    )
    assert "AP goes from 40.1% to 43.1%, a relative change of +7.50%" in text
    assert "**+3.01** | **+0.89 to +5.27**" in text
    assert "(+1.14 points of AP, 95% interval +0.21 to +2.13)" in text
    # AP75, no small object, medium, large, VOC's metric
    further = "| ensemble of 2 | 51.9% | – | 41.5% | 51.1% | 73.3% | 70.9 to 75.7% | 74.3% | 71.8 to 76.6% |"
    assert further in text
    ap50 = (
        "**AP50** | **ResNet-14** | **plain-14** | **73.1%** | **70.1%** | **+3.01** | **+0.89 to +5.27** | **+4.29%**"
    )
    assert ap50 in text and "**mAP, 2007** | **ResNet-14** | **plain-14** | **71.7%** | **68.7%**" in text


def test_every_number_of_the_summary_follows_the_inputs():
    changed = with_evaluation(make_detection_sample([make_gain(0.011, 0.0222, 0.0333, 0.2)]), others=[])
    ensemble = {**changed.ensemble, "test_err1": 0.4321, "ci95": [0.4, 0.46]}
    changed = with_evaluation(changed, ensemble=ensemble)
    known = ("56.8", "54.0", "60.0", "20.0", "22.2", "11.10", "5.50", "16.65")
    text = written(changed)
    assert all(number in text for number in known)
    assert "44.8% (" not in text and "+7.50%" not in text


def test_the_papers_tables_stand_beside_our_gain():
    text = written(make_detection_sample())
    for row in (
        "| Table 7, PASCAL VOC | mAP, 2007 | ResNet-101 | VGG-16 | 76.4% | 73.2% | +3.2 | – | +4.4% | – |",
        "| Table 7, PASCAL VOC | mAP, 2012 | ResNet-101 | VGG-16 | 73.8% | 70.4% | +3.4 | – | +4.8% | – |",
        "| Table 8, COCO | AP | ResNet-101 | VGG-16 | 27.2% | 21.2% | +6.0 | – | +28.3% | – |",
        "| Table 8, COCO | AP50 | ResNet-101 | VGG-16 | 48.4% | 41.5% | +6.9 | – | +16.6% | – |",
    ):
        assert row in text


@pytest.mark.parametrize(
    ("gain", "status", "sentence"),
    [
        (MORE, "holds", "The gain is more than chance explains"),
        (UNSURE, "inconclusive", "Whether there is a gain is inconclusive"),
        (LESS, "fails", "The gain does not hold here, ResNet-14 detects worse"),
    ],
)
def test_a_gains_interval_decides_the_claim_and_the_words(gain, status, sentence):
    inputs = make_detection_sample([make_gain(*gain)])
    result = outcome(inputs, CLAIM)
    assert (result.status, result.interval, result.runs, result.seeds) == (status, (gain[0], gain[2]), 6, (0, 1, 2))
    text = written(inputs)
    assert sentence in text and f"**{status}**" in text
    assert ("which includes zero" in text) == (status == "inconclusive")
    assert ("more than chance explains" in texts(detector_gain(inputs))) == (status == "holds")


@pytest.mark.parametrize("gain", [MORE, LESS])
def test_one_seed_of_each_net_settles_no_gain(gain):
    inputs = make_detection_sample([make_gain(*gain, seeds=[0])])
    result, why = outcome(inputs, CLAIM), "one run of each net does not show how far runs differ"
    assert (result.status, result.interval, result.p) == ("inconclusive", (gain[0], gain[2]), None)
    assert why in result.evidence and "Whether there is a gain is inconclusive: with" in written(inputs)
    assert f"but {why}" in written(inputs)


def test_of_two_seeds_that_agree_the_images_decide():
    gain = make_gain(0.012, 0.027, 0.042, seeds=[0, 1])
    assert (
        outcome(make_detection_sample([gain]), CLAIM).p > 0.02
    )  # of a published result that does not say how they agree
    gain["difference"]["df"] = None
    assert outcome(make_detection_sample([gain]), CLAIM).p < 0.001


def test_a_gain_over_a_net_that_detects_nothing_has_no_share():
    inputs = make_detection_sample([make_gain(0.1, 0.2, 0.3, net_ap=0.2, base_ap=0.4, relative=None)])
    assert not figures(detector_gain(inputs)) and "detect nothing" in texts(detector_gain(inputs))
    assert "Relative gain in AP" not in written(inputs) and outcome(inputs, CLAIM).status == "holds"


def test_claims_of_the_papers_data_sets_are_not_measured_on_digit_scenes(built):
    claims = json.loads((built[1] / "claims.json").read_text())["claims"]
    assert [claim["id"] for claim in claims] == [claim.id for claim in CLAIMS if claim.dataset in DETECTION]
    others = [claim for claim in claims if claim["id"] != CLAIM]
    assert len(others) == 9 and {claim["status"] for claim in others} == {"not measured"}
    commands = {claim["command"] for claim in others if claim["check"] == "not_public"}
    assert commands == {""}  # nothing would measure these
    rest = [claim for claim in others if claim["check"] != "not_public"]
    assert all(claim["command"].startswith(f"dvc exp run -S data={claim['dataset']} ") for claim in rest)
    assert "This claim is about COCO; these runs are on digit_scenes." in {claim["evidence"] for claim in others}


def test_on_coco_the_swap_is_judged():
    inputs = make_coco_sample()
    found = {result.claim.id: result for result in assess_detectors(inputs) if result.claim.dataset == "coco"}
    assert found["coco-ap"].status == "holds" and found["coco-ap"].length == 1
    assert found["coco-relative-gain"].status == "holds"
    assert found["coco-ap50"].status == "holds" and found["coco-ap50"].value == pytest.approx(0.06)
    assert found["coco-ap50"].evidence.startswith("AP50: VGG-16 51.2%, ResNet-101 (v1.5) 57.2% on")
    rest = {name: result.status for name, result in found.items() if name[5:] not in ("ap", "ap50", "relative-gain")}
    assert len(rest) == 4 and set(rest.values()) == {"not measured"}
    body = written(inputs)
    assert "Not measured on ResNet-101 (v1.5) alone; make an ensemble of it alone (ensemble=listed with " in body
    small = make_gain(0.001, 0.005, 0.009, 0.212, net="ResNet-101 (v1.5)", base="VGG-16", seeds=[0, 1, 2])
    assert outcome(make_coco_sample(small), "coco-relative-gain").status == "fails"


@pytest.mark.parametrize(("low", "status"), [(0.01, "holds"), (-0.01, "inconclusive")])
def test_an_improvement_is_judged_by_what_it_adds(low, status):
    inputs = make_coco_sample()
    row = improvement("evaluation.refine", ["ResNet-101 (v1.5)"])
    inputs.evaluation["improvements"] = [{**row, "difference": {"estimate": 0.027, "ci95": [low, 0.04]}}]
    refined = outcome(inputs, "coco-box-refinement")
    assert refined.status == status and "27.2% without, 29.9% with it" in refined.evidence
    assert outcome(inputs, "coco-multi-scale-testing").status == "not measured"


@pytest.mark.parametrize(("seeds", "status"), [([0], "inconclusive"), ([0, 1], "holds")])
def test_context_is_learned_so_one_seed_settles_nothing(seeds, status):
    inputs = make_coco_sample()
    inputs.evaluation["improvements"] = [{**improvement("model.context", ["ResNet-101 (v1.5)"]), "seeds": seeds}]
    assert outcome(inputs, "coco-global-context").status == status


def test_detectors_with_several_heads_are_told_apart():
    inputs = make_coco_sample()
    assert not re.search("context|Faster R-CNN", "".join(texts(detectors(inputs))))
    resnet = inputs.members[1]
    with_context = replace(resnet, key="c", run_id="c", model=replace(resnet.model, context=True))
    inputs = with_evaluation(inputs, others=[make_entry(with_context)])
    shown = "".join(texts(detectors(inputs)))
    for name in ("VGG-16 Faster R-CNN", "ResNet-101 (v1.5) Faster R-CNN", "ResNet-101 (v1.5) Faster R-CNN (context)"):
        assert name in shown


def improvement(key: str, keys: list[str]) -> dict:
    difference = {"estimate": 0.027, "ci95": [0.01, 0.04]}
    return {"key": key, "seeds": None, "keys": keys, "ap": [0.272, 0.299], "difference": difference}


def test_an_improvement_has_the_runs_seeds_and_length_of_its_nets():
    inputs = make_coco_sample()
    rows = [improvement("evaluation.refine", ["VGG-16", "ResNet-101 (v1.5)"]), improvement("model.context", ["VGG-16"])]
    inputs.evaluation["improvements"] = rows
    for claim in ("coco-box-refinement", "coco-global-context"):  # Table 9 is about ResNet-101
        assert outcome(inputs, claim).status == "not measured"
    rows += [improvement(row["key"], ["ResNet-101 (v1.5)"]) for row in rows]
    for claim in ("coco-box-refinement", "coco-global-context"):
        result = outcome(inputs, claim)
        assert (result.status, result.runs, result.seeds, result.length) == ("holds", 1, (0,), 1)


@pytest.mark.parametrize(
    ("claim", "key"), [("coco-box-refinement", "evaluation.refine"), ("coco-multi-scale-testing", "evaluation.scales")]
)
def test_of_a_mixed_ensemble_the_sentence_says_how_to_measure_one_net(claim, key):
    inputs = make_coco_sample()
    inputs.evaluation["improvements"] = [improvement(key, [net.key for net in inputs.members])]
    result = outcome(inputs, claim)
    assert result.status == "not measured" and f" and evaluate with {key}=" in result.evidence
    rule = RULES[re.search(r"ensemble=(\w+) if it is the best net", result.evidence)[1]]
    alone = rule(sorted(inputs.members, key=lambda net: net.rank), 3)
    inputs.evaluation["improvements"] = [improvement(key, [net.key for net in alone])]
    assert outcome(inputs, claim).status == "holds"


def test_short_trainings_show_no_improvement():
    inputs = make_coco_sample(steps=30_000)
    inputs.evaluation["improvements"] = [improvement("evaluation.scales", ["ResNet-101 (v1.5)"])]
    result = outcome(inputs, "coco-multi-scale-testing")
    assert result.status == "not measured" and "9.4% of the paper's steps" in result.evidence


def test_a_gain_counts_the_runs_that_it_is_computed_from():
    """The sample has three seeds of either net."""
    used = ["11", "12", "01", "02"]
    gains = [make_gain(*MORE, seeds=[1, 2], keys=used, apart="recipe.max_steps=900"), make_gain(*LESS, apart="recipe.max_steps=450")]  # fmt: skip
    inputs = make_detection_sample(gains)
    result = outcome(inputs, CLAIM)
    assert (result.status, result.runs, result.seeds) == ("holds", 4, (1, 2))
    text = written(inputs)
    for gain in gains:
        assert text.count(f"ResNet-14 in place of plain-14 ({gain['apart']})") == 2
        assert f"{', '.join(map(str, gain['seeds']))} ({gain['apart']})" in text


def test_short_trainings_and_missing_nets_measure_nothing():
    short = outcome(make_coco_sample(steps=30_000), "coco-ap")
    assert short.status == "not measured" and "9.4% of the paper's steps" in short.evidence
    none = make_detection_sample(gains=())
    assert "ResNet-14 was not compared with plain-14" in outcome(none, CLAIM).evidence
    assert "none can be compared" in written(none)


def test_a_report_of_classifiers_leaves_claims_about_detectors_unmeasured():
    inputs = make_sample()
    results = [result for result in assess(inputs) if result.claim.dataset in DETECTION]
    assert len(results) == 10 and {result.status for result in results} == {"not measured"}
    called_coco = replace(inputs, data={**inputs.data, "name": "coco"})
    result = next(result for result in assess(called_coco) if result.claim.id == "coco-ap")
    assert result.evidence == "A claim about detectors; these nets classify."


def test_missing_parts_become_sentences():
    inputs = make_detection_sample(scenes=[])
    bare = with_evaluation(replace(inputs, leaderboard=None, curves=(), provenance={}), ensemble=None, members=[])
    bare = with_evaluation(bare, others=[], gains=[])
    text = written(bare)
    for sentence in ("No sweep", "No learning curves", "No detections to show", "were not recorded"):
        assert sentence in text
    assert "- Named run, AP\n  **42.6%**" in text and "ResNet-14 in Faster R-CNN reaches an AP of 42.6%" in text
    empty = written(with_evaluation(bare, run=None))
    assert "No detector was evaluated." in empty and "No AP by class" in empty
    with pytest.raises(PipelineError, match="evaluate"):
        with_evaluation(inputs, members=[{"key": "x"}])
    with pytest.raises(PipelineError, match="evaluate"):  # a classifier's
        with_evaluation(inputs, members=[make_net(20).to_json()])


def test_figures_draw_in_every_theme():
    inputs = make_detection_sample()
    for section in (detectors, detector_gain, detector_curves, detector_classes):
        (figure,) = figures(section(inputs))
        assert is_picture(figure.draw) and is_picture(figure.draw, DARK.narrowed())
    (figure,) = figures(detector_classes(inputs))
    assert figure.caption.endswith("Without an object among the test images: 9.")
    assert len(figure.draw(LIGHT).axes[0].patches) == 9
    (figure,) = figures(detector_curves(inputs))
    assert [axes.get_title(loc="left") for axes in figure.draw(LIGHT).axes] == ["plain", "residual"]
    assert "4 other runs as thin curves" in figure.caption


@pytest.mark.parametrize("size", [(128, 128), (640, 427), (300, 500)])
def test_a_scene_has_its_image_boxes_and_names(size):
    scene = make_scene(size=size)
    root = ElementTree.fromstring(drawn(scene, DIGITS))
    space = "{http://www.w3.org/2000/svg}"
    image = root.find(f"{space}image")
    png = base64.b64decode(image.get("href").removeprefix("data:image/png;base64,"))
    assert Image.open(io.BytesIO(png)).size == size
    assert float(image.get("height")) / float(image.get("width")) == pytest.approx(size[1] / size[0], abs=1e-3)
    shown = [text.text for text in root.iter(f"{space}text")]
    assert shown == ["1", "2", "3", "3 78%", "2 88%", "1 98%", "Image 7: 3 objects, 3 found"]  # the surest on top
    dashes = [rect.get("stroke-dasharray") for rect in root.iter(f"{space}rect") if rect.get("fill") == "none"]
    assert dashes == [None, "6 4", None, "6 4", None, "1.5 4", *[None] * 6]
    for rect in root.iter(f"{space}rect"):
        if rect.get("fill") != "none":  # a label
            assert float(rect.get("x")) >= 0 and float(rect.get("x")) + float(rect.get("width")) <= 320


def test_the_gallery_says_what_its_lines_mean():
    (gallery,) = scenes(make_detection_sample())
    assert "Dashed" in gallery.caption and "Dotted" in gallery.caption
    assert gallery.drawings[0].alt == "Test image 3; objects: 1, 2, 3; found: 1 (98%), 2 (88%), 3 (78%)"


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium is installed: apt-get install chromium")
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_cut_off(built, width):
    facts = measured(built[1] / "index.html", width)
    assert facts["wide"] == facts["room"] == width
    assert {"table", "td", "img", "svg", "pre", "p"} <= {part["name"] for part in facts["parts"]}
    assert not [part for part in facts["parts"] if part["hidden"] > 1 or part["right"] > width]
    assert min(part["letters"] for part in facts["parts"] if part["name"] != "svg") >= 12
    # Letters of a scene grow with it: its 320 units stand on about as many pixels.
    assert all(280 <= part["broad"] <= 400 for part in facts["parts"] if part["name"] == "svg")


def test_the_summary_of_detectors_has_their_ap():
    evaluation = {**make_detection_sample().evaluation, "data": {"name": "walls", "num_test": 15}}
    text, net = summary_table(evaluation), evaluation["members"][0]
    for words in (
        "walls: AP on 15 test images",
        "test AP",
        "AP50",
        f"{100 * (1 - net['test_err1']):.1f}%",
        f"{100 * (1 - net['ci95'][1]):.1f} to ",
    ):
        assert words in text
    assert "error" not in text


def test_the_pictures_say_which_detections_they_leave_out():
    (gallery,) = scenes(make_detection_sample())
    assert "scores less than 0.5 counts for AP and is not drawn" in gallery.caption
