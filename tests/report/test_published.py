"""Results kept in git, and the pages made of them."""

from __future__ import annotations

import dataclasses
import re

import pytest
from members import ERRORS, MEMBER

from pipeline.atomic import read_json
from pipeline.report.inputs import ReportInputs
from pipeline.report.published import BEGIN, END, publish

INPUTS = ReportInputs(
    data={"name": "cifar10", "classes": ["a", "b"], "counts": {"train": 45, "val": 5, "test": 10}},
    evaluation={"members": [MEMBER], "ensemble": {"size": 3, "selection": "top_k", **ERRORS}},
    provenance={"commands": {"the whole experiment": "dvc exp run -S data=cifar10"}},
)


def test_the_table_is_made_anew_from_all_results_and_the_rest_of_the_readme_stays(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{BEGIN}\nstale\n{END}\nafter\n")
    for name in ("cifar10", "cifar10-seed.1"):
        publish(INPUTS, name, tmp_path / "results", readme)
    text = readme.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "stale" not in text
    assert text.count("| cifar10 | 1 | 700 | ResNet-20 | 25.12%") == 2
    assert read_json(tmp_path / "results" / "cifar10-seed.1.json")["evaluation"]["members"][0]["test_err1"] == 0.2512


def test_a_result_holds_its_sweep(tmp_path):
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    trial = {"name": "t", "config": {"model.depth": 20}, "val_err1": 0.25, "steps": 700, "stopped_early": False}
    leaderboard = {"trials": [{**trial, "status": "finished"}]}
    path = publish(
        dataclasses.replace(INPUTS, leaderboard=leaderboard), "a", tmp_path / "results", tmp_path / "README.md"
    )
    assert read_json(path)["leaderboard"] == leaderboard


@pytest.mark.parametrize(
    ("weights", "kept"), [("/home/me/net.safetensors", "net.safetensors"), ("run:0a1b", "run:0a1b"), ("", "")]
)
def test_a_result_names_no_folder_of_this_machine(tmp_path, weights, kept):
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    trial = {"name": "t", "config": {"start.weights": weights}, "val_err1": 0.25, "steps": 700, "stopped_early": False}
    leaderboard = {"trials": [{**trial, "status": "finished"}]}
    inputs = dataclasses.replace(INPUTS, leaderboard=leaderboard)
    path = publish(inputs, "a", tmp_path / "results", tmp_path / "README.md")
    assert read_json(path)["leaderboard"]["trials"][0]["config"] == {"start.weights": kept}


def test_a_result_holds_its_curves_as_they_are_drawn_and_its_responses(tmp_path, make_sample):
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    sample = make_sample(depths=(20, 56), plain=(20,))
    layers = {"run_id": "r", "key": "k", "model": "resnet20", "depth": 20, "residual": True, "seed": 0}
    responses = [{**layers, "std": [0.5], "gradient": [0.1]}]
    commands = {"commands": {"the whole experiment": "dvc exp run -S data=cifar10"}}
    inputs = dataclasses.replace(sample, responses=responses, provenance=commands)
    kept = read_json(publish(inputs, "a", tmp_path / "results", tmp_path / "README.md"))
    assert [curve["model"] for curve in kept["curves"]] == ["plain20", "resnet20", "resnet56"]
    assert all(len(curve["points"]["train/err1"]) <= 120 for curve in kept["curves"])
    assert kept["curves"][0]["points"]["val/err1"][-1] == [64_000, 0.095]
    assert kept["responses"] == responses


def test_a_result_holds_its_pictures_and_the_claims_that_it_measured(tmp_path, make_sample):
    (tmp_path / "README.md").write_text(f"{BEGIN}\n{END}\n")
    commands = {"commands": {"the whole experiment": "dvc exp run -S data=cifar10"}}
    inputs = dataclasses.replace(make_sample(depths=(20, 56), plain=(20, 56)), provenance=commands)
    old = tmp_path / "results" / "a" / "transfer.png"
    old.parent.mkdir(parents=True)
    old.write_text("of an earlier run")
    kept = read_json(publish(inputs, "a", tmp_path / "results", tmp_path / "README.md"))
    files = {path.name for path in (tmp_path / "results" / "a").iterdir()}
    assert files == {f"{name}.png" for name in kept["pictures"]} == {"curves.png", "responses.png", "cost.png"}
    verdicts = {claim["id"]: claim["status"] for claim in kept["claims"]}
    assert verdicts["cifar10-plain-degrades"] == "holds"
    assert "not measured" not in verdicts.values() and not any("imagenet" in name for name in verdicts)
    assert f"| {list(verdicts.values()).count('holds')} hold, " in (tmp_path / "README.md").read_text()
    page = (tmp_path / "results" / "README.md").read_text()
    shown = re.findall(r"!\[.*\]\((.*)\)", page)
    assert len(shown) == 3 and all((tmp_path / "results" / path).is_file() for path in shown)


def test_a_readme_without_a_place_for_it_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("nothing")
    with pytest.raises(ValueError, match="put them where the table belongs"):
        publish(INPUTS, "cifar10", tmp_path / "results", tmp_path / "README.md")
