"""Results kept in git, and the pages made of them."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import pytest
from detector_samples import make_coco_sample, make_detection_sample, make_scene, with_evaluation
from imports import ROOT
from nets import make_model, make_net, make_recipe
from samples import make_curve, make_sample, with_nets
from verdicts import IMAGENET

from pipeline.atomic import read_json
from pipeline.report.checks import assess
from pipeline.report.inputs import ReportInputs
from pipeline.report.kept_nets import COLUMNS, NETS
from pipeline.report.paper import CLAIMS
from pipeline.report.published import BEGIN, END, collection, list_all, overview, publish, title

MEMBER = make_net(
    20, error=0.2512, steps=700, val_err1=0.25, ci95=(0.24, 0.26), test_err5=0.01, ci95_err5=None, key="k"
)
ERRORS = {"val_err1": 0.25, "test_err1": 0.2512, "test_err5": 0.01, "ci95": [0.24, 0.26]}
COMMAND = "dvc exp run -S data=cifar10"
INPUTS = ReportInputs(
    data={"name": "cifar10", "classes": ["a", "b"], "counts": {"train": 45, "val": 5, "test": 10}},
    evaluation={"members": [MEMBER.to_json()], "ensemble": {"size": 3, "selection": "top_k", **ERRORS}},
    provenance={"commands": {"the whole experiment": COMMAND}},
)
DEGRADES = {"id": "cifar10-plain-degrades", "status": "holds", "evidence": "56 > 20", "runs": 2, "length": 0.125}
COUNTED = {"id": "resnet152-below-vgg", "status": "holds", "evidence": "11.3", "runs": None, "length": None}


@pytest.fixture
def published(tmp_path):
    """Publishes inputs as `a`; what it wrote."""
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")

    def run(inputs, name="a"):
        return read_json(publish(inputs, name, tmp_path / "results", tmp_path / "README.md"))

    return run


def result(command=COMMAND, claims=(), inputs=INPUTS):
    provenance = {"commands": {"the whole experiment": command}}
    told = {"claims": list(claims), "pictures": ["curves"], "provenance": provenance}
    told |= {"curves": [], "leaderboard": None, "responses": []}
    return {"name": "a", "data": inputs.data, "evaluation": inputs.evaluation, **told}


def rows(markdown: str) -> list[list[str]]:
    """Cells of the tables in a page, without the rules below their headers."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ") and "---" not in line]
    return [[cell.strip().replace("\\", "") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_tables_are_made_anew_from_all_results_and_the_rest_of_the_readme_stays(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    for name in ("cifar10", "cifar10-seed.1"):
        publish(INPUTS, name, tmp_path / "results", readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
    assert text.count("| cifar10 | 1 | 700 | ResNet-20 | 25.12% (24.00 to 26.00%) | of 3 |") == 2
    assert read_json(tmp_path / "results" / "cifar10-seed.1.json")["evaluation"]["members"][0]["test_err1"] == 0.2512
    readme.write_text("nothing")
    with pytest.raises(ValueError, match="put them where the table belongs"):
        publish(INPUTS, "cifar10", tmp_path / "results", readme)


@pytest.mark.parametrize(
    ("weights", "kept"), [("/home/me/net.safetensors", "net.safetensors"), ("run:0a1b", "run:0a1b"), ("", "")]
)
def test_a_result_holds_its_sweep_and_names_no_folder_of_this_machine(published, weights, kept):
    trial = {"name": "t", "config": {"start.weights": weights}, "val_err1": 0.25, "steps": 700, "stopped_early": False}
    trial |= {"status": "finished"}
    expected = [{**trial, "config": {"start.weights": kept}}]
    assert published(replace(INPUTS, leaderboard={"trials": [trial]}))["leaderboard"] == {"trials": expected}


def test_the_page_lists_the_attempts_of_interrupted_trainings(published, tmp_path):
    attempts = {MEMBER.key: [[1, 0, "2026-11-30T04:46:43+00:00"], [2, 3057, "2026-12-01T10:00:00+00:00"]]}
    published(replace(INPUTS, provenance={**INPUTS.provenance, "attempts": attempts}))
    table = rows((tmp_path / "results" / "README.md").read_text())
    assert ["ResNet-20", "0", "2", "3,057", "2026-12-01T10:00:00+00:00"] in table


def test_a_result_holds_curves_responses_pictures_and_the_claims_that_it_measured(published, tmp_path):
    inputs = make_sample(depths=(20, 56), plain=(20, 56))
    old = tmp_path / "results" / "a" / "transfer.png"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier run")
    kept = published(inputs)
    names = [curve["net"]["name"] for curve in kept["curves"]]
    assert names[:4] == ["plain-20", "plain-56", "ResNet-20", "ResNet-56"] and len(names) == len(inputs.curves)
    assert all(len(curve["points"]["train/err1"]) <= 121 for curve in kept["curves"])
    assert kept["curves"][0]["points"]["val/err1"][-1] == [64_000, 0.095]
    assert kept["responses"] == inputs.responses and "tracking_uri" not in kept["provenance"]
    files = {path.name for path in (tmp_path / "results" / "a").iterdir()}
    assert (
        files
        == {f"{name}.png" for name in kept["pictures"]}
        == {"by-members.png", "curves.png", "responses.png", "cost.png"}
    )
    verdicts = {claim["id"]: claim["status"] for claim in kept["claims"]}
    assert verdicts["cifar10-plain-degrades"] == "holds"
    assert "not measured" not in verdicts.values() and not any("imagenet" in name for name in verdicts)
    trained = [claim["status"] for claim in kept["claims"] if claim["runs"] is not None]
    assert len(trained) < len(verdicts) and f"| {trained.count('holds')} hold, " in (tmp_path / "README.md").read_text()
    shown = re.findall(r"!\[.*\]\((.*)\)", (tmp_path / "results" / "README.md").read_text())
    assert len(shown) == 4 and all((tmp_path / "results" / path).is_file() for path in shown)
    again = ReportInputs(data=kept["data"], evaluation=kept["evaluation"], leaderboard=kept["leaderboard"])
    assert again.nets == inputs.nets and again.trials == inputs.trials


def test_an_experiments_table_has_every_net_with_minutes_and_both_intervals_where_they_are_known():
    timed = replace(MEMBER, seconds=90.0, processors=("2 threads",), ci95_err5=(0.008, 0.0121))
    run = replace(
        MEMBER,
        run_id="r",
        key="r",
        seconds=90.0,
        checkpoint_sha256="r",
        model=make_model(56, shortcut="B"),
        val_err1=None,
    )
    _, first, second, ensemble = rows(str(collection([result(inputs=with_nets(INPUTS, [timed], run))])))[-4:]
    assert first == [
        "ResNet-20",
        "700",
        "1.5 on 2 threads",
        "25.00%",
        "25.12%",
        "24.00 to 26.00%",
        "1.00%",
        "0.80 to 1.21%",
    ]
    assert second[0] == "ResNet-56 (B) (named run), trained on all images" and second[2::5] == ["–", "–"]
    assert ensemble[0] == "**ensemble of 3**" and len(ensemble) == 1 + len(COLUMNS)


def test_an_experiment_is_called_by_what_was_chosen():
    command = f"{COMMAND} -S sweep=transfer -S ++set.start.weights='run:a b' -S ++set.trainer.compile=true"
    assert title(result(f"{command} -S ++set.evaluation.runs=all")) == "cifar10, sweep=transfer, start.weights=run:a b"


def test_the_best_net_is_the_one_that_validates_best_whatever_its_test_error():
    lucky = replace(MEMBER, model=make_model(56), val_err1=0.3, test_err1=0.1, steps=900, key="l", run_id="l")
    unseen = replace(MEMBER, model=make_model(110), val_err1=None, key="u", run_id="u")
    _, row = rows(overview([result(inputs=with_nets(INPUTS, [lucky, unseen, MEMBER]))]))
    assert row[1:5] == ["3", "700 to 900", "ResNet-20", "25.12% (24.00 to 26.00%)"]
    _, alone = rows(overview([result(inputs=with_nets(INPUTS, [unseen], ensemble=None))]))
    assert alone[3:7] == ["ResNet-110", "25.12% (24.00 to 26.00%)", "–", "–"]
    _, two = rows(overview([result(inputs=with_nets(INPUTS, [unseen, replace(unseen, key="v")], ensemble=None))]))
    assert two[3:5] == ["–", "–"]


def test_each_claim_stands_once_with_every_experiment_that_measured_it():
    eighth = result(f"{COMMAND} -S recipe=cifar_eighth", [DEGRADES, COUNTED])
    quarter = result(f"{COMMAND} -S recipe=cifar_quarter", [{**DEGRADES, "status": "fails"}, COUNTED])
    body = collection([eighth, quarter]).sections[0].body
    assert f"trainings below measure 1 of the paper's {len(CLAIMS)} claims; 1 follow from the architectures" in body
    _, *claims = rows(body)
    assert [row[1:4] for row in claims] == [
        ["**holds**", "cifar10, recipe=cifar_eighth", "12%"],
        ["**fails**", "cifar10, recipe=cifar_quarter", "12%"],
        ["**holds**", "", ""],
    ]
    assert [bool(row[0]) for row in claims] == [True, False, True]
    missing = body[body.index("<details>") :]
    assert f"{len(CLAIMS) - 2} claims not measured" in missing
    assert "cifar10-resnet110-seeds" in missing and "cifar10-plain-degrades," not in missing


def test_the_page_says_what_was_not_recorded():
    text = str(collection([result()]))
    assert "hardware not recorded" in text and "![learning curves of cifar10](a/curves.png)" in text


def test_earlier_results_are_judged_by_todays_rules(published, tmp_path):
    kept = published(make_sample(depths=(20, 56), plain=(20, 56)))
    path = tmp_path / "results" / "a.json"
    path.write_text(json.dumps({**kept, "claims": [{**claim, "status": "fails"} for claim in kept["claims"]]}))
    list_all(tmp_path / "results", tmp_path / "README.md")
    assert read_json(path) == kept


@pytest.mark.parametrize("late", [2, 4])
def test_published_verdicts_are_those_of_the_report(late, published):
    """On several seeds, at one warm-up and none: every run that a claim reads is kept."""
    warm, cold = make_recipe(warmup_lr=0.01), make_recipe()
    nets = [make_net(20, residual=r, seed=s, key=f"{r}{s}", run_id=f"{r}{s}") for r in (True, False) for s in range(3)]
    nets += [make_net(110, recipe=recipe, key=key, run_id=key) for recipe, key in ((warm, "warm"), (cold, "cold"))]
    curves = [make_curve(net) for net in nets]
    val = [(step, 0.95 if at < late else error) for at, (step, error) in enumerate(curves[-1].points["val/err1"])]
    curves[-1] = replace(curves[-1], points={**curves[-1].points, "val/err1": val})
    inputs = with_nets(make_sample(), nets, curves=curves)
    expected = {o.claim.id: (o.status, o.runs, o.evidence) for o in assess(inputs) if o.status != "not measured"}
    kept = {claim["id"]: (claim["status"], claim["runs"], claim["evidence"]) for claim in published(inputs)["claims"]}
    assert kept == expected and "cifar10-resnet110-without-warm-up" in kept


def test_published_verdicts_on_the_course_of_training_are_those_of_the_report():
    """With points that lie on no edge of a part of the training, and validation errors of 50,000 images."""
    rng, steps = np.random.default_rng(0), 600_000
    curves = []
    for depth, residual in ((18, False), (34, False), (18, True)):
        curve = make_curve(make_net(depth, residual=residual, error=0.3, **IMAGENET))
        train = [(round(steps * at / 433), rng.normal(0.5, 0.02)) for at in range(1, 434)]
        points = {"train/err1": train, "val/err1": [(steps // 2, 0.4), (steps, round(rng.normal(0.3, 0.002), 5))]}
        curves.append(replace(curve, points=points))
    inputs = with_nets(make_sample(name="imagenet", depths=(), plain=()), [], ensemble=None, curves=curves)
    same = {part: getattr(inputs, part) for part in ("data", "evaluation", "leaderboard", "provenance")}
    kept = json.loads(json.dumps({**same, **NETS.keep(inputs)}))
    expected = [outcome for outcome in assess(inputs) if outcome.status != "not measured"]
    assert [outcome for outcome in assess(NETS.read(kept)) if outcome.status != "not measured"] == expected
    of_parts = {"imagenet-plain-degrades-throughout", "imagenet-residual-converges-faster"}
    assert of_parts <= {outcome.claim.id for outcome in expected}


def test_an_experiment_of_many_classes_stands_first_with_its_top5_errors(published, tmp_path):
    few = make_sample(depths=(20, 56), plain=())
    errors = {"test_err5": 0.0311, "ci95_err5": [0.03, 0.032]}
    errors["difference_to_best_member5"] = {"estimate": -0.0189, "ci95": [-0.02, -0.01]}
    nets = [replace(net, test_err5=0.05, ci95_err5=(0.045, 0.055)) for net in few.members]
    many = replace(few, data={**few.data, "classes": [str(i) for i in range(100)]})
    many = with_nets(many, nets, ensemble={**few.ensemble, **errors, "by_size": []}, curves=[])
    published(few, "a")
    published(many, "b")
    _, first, second = rows((tmp_path / "README.md").read_text())
    assert first[4].endswith(", top-5 5.00% (4.50 to 5.50%)") and first[6].endswith(", top-5 3.11% (3.00 to 3.20%)")
    assert "top-5" not in "".join(second)


def test_the_pages_of_this_repository_are_made_of_its_results(tmp_path):
    (tmp_path / "results").mkdir()
    shutil.copy(ROOT / "README.md", tmp_path)
    kept = [path.relative_to(ROOT) for path in (ROOT / "results").glob("*.json")]
    for path in kept:
        shutil.copy(ROOT / path, tmp_path / path)
    list_all(tmp_path / "results", tmp_path / "README.md")
    for path in ("README.md", "results/README.md", *kept):
        assert (tmp_path / path).read_bytes() == (ROOT / path).read_bytes(), path


def test_detectors_stand_with_their_ap_and_the_gain_beside_the_papers(published, tmp_path):
    published(make_detection_sample())
    section = (tmp_path / "results" / "README.md").read_text().split("## digit\\_scenes")[1]
    table = rows(section)
    nets = [row[:5] for row in table if len(row) == 10]
    assert ["ResNet-14", "43.6%", "41.7 to 45.8%", "73.7%", "71.7 to 75.7%"] in nets
    assert ["**ensemble of 2**", "**44.8%**", "**42.8 to 46.7%**", "**74.9%**", "**72.8 to 76.8%**"] in nets
    (ours,) = [row for row in table if row[:2] == ["**here, seeds 0, 1, 2**", "**AP**"]]
    assert ours[-2:] == ["**+7.50%**", "**2.22 to 13.14%**"] and "the gain in AP on COCO 28%" in section
    printed = [row for row in table if row[0].startswith("Table ")]
    assert printed[2] == ["Table 8, COCO", "AP", "ResNet-101", "VGG-16", "27.2%", "21.2%", "+6.0", "–", "+28.3%", "–"]
    shown = re.findall(r"!\[.*\]\((.*)\)", section)
    assert shown == ["a/gain.png", "a/curves.png", "a/detections.png"]
    assert all((tmp_path / "results" / path).stat().st_size < 150_000 for path in shown)


def test_detectors_have_a_table_of_their_own_below_that_of_other_nets(published, tmp_path):
    published(replace(make_detection_sample(scenes=[]), curves=()))
    published(replace(INPUTS, data={**INPUTS.data, "name": "later"}), "later")
    first, second = (tmp_path / "README.md").read_text().split("\n\n")
    assert rows(first) == rows(overview([result(inputs=replace(INPUTS, data={**INPUTS.data, "name": "later"}))]))
    header, row = rows(second)
    assert dict(zip(header, row, strict=True)) == {
        "detectors": "digit_scenes",
        "nets": "6",
        "steps": "450",
        "best net on validation": "ResNet-14",
        "test AP": "44.8% (42.8 to 46.7%)",
        "ensemble": "of 2",
        "relative gain (the paper: 28%)": "ResNet-14 for plain-14: +7.50% (2.22 to 13.14%)",
        "claims": "1 hold",
    }
    page = (tmp_path / "results" / "README.md").read_text()
    assert page.index("## later") < page.index("## digit")
    assert "Intervals of gains in AP are over images" in page and "over images and over seeds" in page


def test_detectors_are_judged_again_without_their_images(published, tmp_path):
    kept = published(make_detection_sample())
    path, page = tmp_path / "results" / "a.json", tmp_path / "results" / "README.md"
    before = page.read_bytes()
    path.write_text(json.dumps({**kept, "claims": []}))
    list_all(tmp_path / "results", tmp_path / "README.md")
    assert read_json(path) == kept and page.read_bytes() == before and "png" not in path.read_text()
    assert [claim["status"] for claim in kept["claims"]] == ["holds"]
    assert [curve["net"]["name"] for curve in kept["curves"]] == ["plain-14 Faster R-CNN", "ResNet-14 Faster R-CNN"]
    assert set(kept["curves"][0]["points"]) == {"val/ap", "val/ap50"}


def test_what_an_ensemble_of_detectors_improves_stands_with_each_experiment(published, tmp_path):
    row = {"key": "evaluation.refine", "seeds": None, "keys": ["ResNet-101 (v1.5)"], "ap": [0.4, 0.42]}
    row |= {"difference": {"estimate": 0.02, "ci95": [0.01, 0.03]}}
    inputs = replace(make_coco_sample(), scenes=[], curves=())
    for name in ("a", "b"):
        published(with_evaluation(inputs, gains=[], improvements=[row]), name)
    claims = (tmp_path / "results" / "README.md").read_text().split("<details>")[0]
    assert claims.count("evaluation.refine: AP 40.0%".replace("_", "\\_")) == 2
    assert (tmp_path / "README.md").read_text().count("| 1 hold |") == 2


def test_photographs_that_would_swell_the_repository_are_left_out(published, tmp_path):
    kept = published(replace(make_detection_sample(scenes=[make_scene(at) for at in range(12)]), curves=()))
    assert kept["pictures"] == ["gain"] == [path.stem for path in (tmp_path / "results" / "a").iterdir()]
