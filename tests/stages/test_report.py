"""What the report says of its runs is what MLflow and train.json recorded of them."""

from __future__ import annotations

import dataclasses
import json
import shutil

import pytest
from nets import make_net
from runs import composed

from pipeline.atomic import read_json, write_json
from pipeline.data.store import open_store
from pipeline.stages import publish, report, summary
from pipeline.stages.report import gather
from pipeline.tracking.location import client, experiment_id, locate
from pipeline.workspace import Workspace


@pytest.fixture
def evaluated(workspace):
    """A workspace as evaluation leaves it: two members and a named run, each with a run in MLflow."""
    root = workspace()
    config, made = composed(root), Workspace(root, "digits")
    location = locate("", config.paths.mlruns)
    mlflow = client(location)
    experiment = experiment_id(mlflow, "digits", location)
    nets = []
    for depth, commit in ((8, "aaa"), (14, "bbb"), (20, "bbb+dirty")):
        start = "net.pth" if depth == 14 else ""
        times = {"seconds": 60.0 * depth, "processors": ("1 GPU",), "images_per_s": 7.0}
        net = make_net(depth, n=360, **times, steps=510, dataset="digits", start=start, key=f"key{depth}", run_id="")
        tags = {"pipeline.commit": commit, "pipeline.hardware": f"{depth} cores", "pipeline.dvc_lock": "ccc"}
        tags["pipeline.net"] = json.dumps(net.to_json())
        run = mlflow.create_run(experiment, tags=tags).info.run_id
        mlflow.log_metric(run, "val/err1", 0.1, step=5)
        nets.append(dataclasses.replace(net, run_id=run, weight=0.5))
    average = {key: nets[0].to_json()[key] for key in ("val_err1", "test_err1", "test_err5", "ci95", "ci95_err5")}
    manifest = open_store(made.store("digits")).manifest
    evaluation = {
        "data": {"name": "digits", "content_hash": manifest.content_hash},
        "members": [net.to_json() for net in nets[:2]],
        "ensemble": {"size": 2, "selection": "top_k", **average},
        "run": nets[2].to_json(),
    }
    write_json(made.result("evaluate"), evaluation)
    layers = {"std": [0.5, 0.3], "gradient": [0.01, 0.02]}
    write_json(made.result("responses"), [{"run_id": net.run_id, "key": net.key, **layers} for net in nets])
    write_json(made.result("mistakes"), [])
    write_json(made.leaderboard, {"sweep": "s", "metric": "val/err1", "trials": []})
    return config, made, location


def test_commit_and_hardware_are_those_of_the_runs(evaluated):
    provenance = gather(*evaluated).provenance
    assert provenance["git_commit"] == ["aaa", "bbb", "bbb+dirty"]
    assert provenance["host"] == ["14 cores", "20 cores", "8 cores"]
    assert provenance["dvc_lock"] == ["ccc"]


def test_attempts_of_interrupted_trainings_are_kept(evaluated):
    *_, location = evaluated
    assert "attempts" not in gather(*evaluated).provenance
    mlflow, (net, other, _) = client(location), gather(*evaluated).nets
    for number, step in ((1, 0), (2, 0), (3, 40)):
        mlflow.log_metric(net.run_id, "attempt", number, timestamp=1_000_000 * number, step=step)
    mlflow.log_metric(other.run_id, "attempt", 1, step=0)
    times = ["1970-01-01T00:16:40+00:00", "1970-01-01T00:33:20+00:00", "1970-01-01T00:50:00+00:00"]
    kept = gather(*evaluated).provenance["attempts"]
    assert kept == {net.key: [[1, 0, times[0]], [2, 0, times[1]], [3, 40, times[2]]]}


def test_a_run_that_mlflow_never_saw_is_of_unknown_commit(evaluated):
    config, made, location = evaluated
    evaluation = read_json(made.result("evaluate"))
    evaluation["run"]["run_id"] = ""
    write_json(made.result("evaluate"), evaluation)
    assert gather(config, made, location).provenance["git_commit"] == ["aaa", "bbb", "unknown"]


def test_the_command_is_of_the_configuration_that_was_used(evaluated):
    config, made, location = evaluated
    assert gather(config, made, location).provenance["commands"]["the whole experiment"] == "dvc exp run -S data=digits"
    seeded = dataclasses.replace(config, seed=3)  # `pipeline report seed=3`
    commands = gather(seeded, made, location).provenance["commands"]
    assert commands["the whole experiment"] == "dvc exp run -S data=digits -S ++set.seed=3"


def test_make_ui_is_named_only_beside_the_store_that_it_shows(evaluated, tmp_path, capsys):
    config, made, location = evaluated
    assert gather(config, made, location).provenance["commands"]["runs"] == "make ui"
    summary.run(config, made)
    assert f"{location.uri}  (make ui)\n" in capsys.readouterr().out
    shutil.copy(made.root / "mlruns" / "mlflow.db", tmp_path)
    other, server = locate("", tmp_path), "http://mlflow:5000"
    assert "runs" not in gather(config, made, other).provenance["commands"]
    for uri, command in ((other.uri, f"  (mlflow server --backend-store-uri {other.uri})"), (server, "")):
        summary.run(dataclasses.replace(config, tracking=dataclasses.replace(config.tracking, uri=uri)), made)
        assert f"MLflow  {uri}{command}\n" in capsys.readouterr().out


def test_an_evaluation_of_other_data_is_refused(evaluated):
    config, made, location = evaluated
    evaluation = read_json(made.result("evaluate"))
    evaluation["data"] = {"name": "cifar10", "content_hash": "f" * 64}
    write_json(made.result("evaluate"), evaluation)
    with pytest.raises(ValueError, match=r"is of data cifar10 .*; run `pipeline evaluate`"):
        gather(config, made, location)


def test_a_report_before_its_evaluation_names_the_stage_to_run(evaluated):
    config, made, location = evaluated
    made.result("evaluate").unlink()
    with pytest.raises(FileNotFoundError, match=r"evaluate\.json is missing; `pipeline evaluate`"):
        gather(config, made, location)


def test_a_leaderboard_of_another_store_is_refused(evaluated):
    config, made, location = evaluated
    write_json(made.leaderboard, {"sweep": "s", "data": "f" * 64, "metric": "val/err1", "trials": []})
    with pytest.raises(ValueError, match=r"leaderboard\.json is of a sweep on other data .* run `pipeline sweep`"):
        gather(config, made, location)


def test_publish_keeps_times_and_sweep_and_one_file_an_experiment(evaluated):
    config, made, _ = evaluated
    readme = made.root / "README.md"
    readme.write_text("<!-- results: made by `pipeline publish` -->\n<!-- end of results -->\n")
    publish.run(config, made)
    publish.run(dataclasses.replace(config, seed=3), made)
    assert sorted(path.name for path in (made.root / "results").glob("*.json")) == ["digits-seed.3.json", "digits.json"]
    result = read_json(made.root / "results" / "digits.json")
    assert result["leaderboard"]["sweep"] == "s"
    assert (result["evaluation"]["run"]["seconds"], result["evaluation"]["run"]["images_per_s"]) == (1200.0, 7.0)
    assert [member["seconds"] for member in result["evaluation"]["members"]] == [480.0, 840.0]
    page = (made.root / "results" / "README.md").read_text()
    assert page.count("| ResNet-20 (named run) | 510 | 20.0 on 1 GPU |") == 2
    assert readme.read_text().count("| digits") == 2
    assert [curve["net"]["name"] for curve in result["curves"]] == ["ResNet-8", "ResNet-14", "ResNet-20"]


def test_the_page_lists_every_commit(evaluated):
    config, made, _ = evaluated
    report.run(config, made)
    text = (made.report / "report.md").read_text()
    assert "| git commit of the runs | `aaa; bbb; bbb+dirty` |" in text
