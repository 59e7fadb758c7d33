"""The last stages on real parts: digits, two short trainings, an ensemble of them, and their evaluation."""

from __future__ import annotations

import ast
import base64
import csv
import io
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from imports import ROOT
from PIL import Image
from runs import composed

from pipeline.atomic import read_json, write_json
from pipeline.data.store import open_store
from pipeline.ensemble import judge, predictions
from pipeline.evaluation.errors import wrong
from pipeline.evaluation.intervals import wilson
from pipeline.learn.models import build_model
from pipeline.report.inputs import ReportInputs
from pipeline.run.weights import load_weights
from pipeline.stages import ensemble, evaluate, report, sync, train
from pipeline.tracking.location import client, locate
from pipeline.workspace import Workspace

QUICK = (
    *("model.depth=8", "recipe.max_steps=17", "trainer.accelerator=cpu", "evaluation.runs=members"),
    "tracking.system_metrics_every_s=0",
)


class Chain:
    """Stages run one after the other in a workspace that has the digits' store."""

    def __init__(self, root: Path) -> None:
        self.workspace = Workspace(root, "digits")

    def config(self, *overrides: str):
        return composed(self.workspace.root, *QUICK, *overrides)

    def run(self, *stages, set: tuple[str, ...] = ()) -> None:
        for stage in stages:
            stage.run(self.config(*set), self.workspace)

    @property
    def result(self) -> dict:
        return read_json(self.workspace.result("evaluate"))

    @property
    def mlflow(self):
        config = self.config()
        return client(locate(config.tracking.uri, config.paths.mlruns))

    def tracked(self) -> dict[str, float | None]:
        """Test error in MLflow by run id."""
        experiment = self.mlflow.get_experiment_by_name("digits")
        runs = self.mlflow.search_runs([experiment.experiment_id])
        return {run.info.run_id: run.data.metrics.get("test_err1") for run in runs}


@contextmanager
def restored(*paths: Path) -> Iterator[None]:
    """The block may change or remove these files, which the tests after it find as they were."""
    with ExitStack() as ending:
        for path in paths:
            ending.callback(path.write_bytes, path.read_bytes())
        yield


@pytest.fixture(scope="module")
def chain(workspace) -> Chain:
    chain = Chain(workspace())
    chain.run(train, set=("model.depth=14",))
    chain.run(train, ensemble)
    chain.tracked_before = list(chain.tracked().values())
    chain.run(evaluate)
    return chain


def test_errors_are_those_of_the_nets_on_the_test_images(chain):
    store = open_store(chain.workspace.store("digits"))
    images, labels = np.array(store.test().images), store.test().labels
    statistics = store.statistics("holdout")
    for member in chain.result["members"]:
        state, record = load_weights(Path(chain.config().paths.runs) / member["key"] / "best.safetensors")
        net = build_model(record.model, 10, 1).eval()
        net.load_state_dict(state)
        pixels = images.astype(np.float32) / 255
        pixels = pixels - statistics.pixel_mean if record.normalize == "per_pixel_mean" else pixels
        if record.normalize == "channel":
            pixels = (pixels - statistics.mean) / statistics.std
        with torch.no_grad():
            p = net(torch.from_numpy(pixels).permute(0, 3, 1, 2)).softmax(1).numpy()
        missed = wrong(p, labels)
        assert member["test_err1"] == pytest.approx(missed.mean(), abs=1.5 / len(labels))
        assert member["ci95"] == pytest.approx(wilson(int(missed.sum()), len(labels)), abs=0.01)


def test_data_members_and_the_errors_by_size_are_described(chain):
    result, average = chain.result, chain.result["ensemble"]
    manifest = open_store(chain.workspace.store("digits")).manifest
    assert result["data"] == {
        "name": "digits",
        "content_hash": manifest.content_hash,
        "protocol": "single 8x8 view",
        "batchnorm": "running",
        "num_test": manifest.counts["test"],
        "classes": list(manifest.classes),
    }
    assert {member["name"] for member in result["members"]} == {"ResNet-8", "ResNet-14"}
    assert [member["weight"] for member in result["members"]] == [0.5, 0.5]
    assert {(member["steps"], member["seed"], member["recipe"]["lr"]) for member in result["members"]} == {(17, 0, 0.1)}
    assert result["run"] == next(member for member in result["members"] if member["name"] == "ResNet-8")
    one, two = average["by_size"]
    assert (one["size"], one["test_err1"]) == (1, result["members"][0]["test_err1"])
    assert two == {"size": 2, **{key: average[key] for key in two if key != "size"}}


def test_the_report_reads_the_result(chain):
    manifest = open_store(chain.workspace.store("digits")).manifest
    data = {"name": manifest.name, "classes": list(manifest.classes), "counts": manifest.counts}
    inputs = ReportInputs(data=data, evaluation=chain.result)
    assert len(inputs.members) == 2 and inputs.ensemble["size"] == 2
    assert inputs.best_member.val_err1 == min(member.val_err1 for member in inputs.members)
    assert inputs.named_run.model.depth == 8 and len(inputs.nets) == 2  # the named run is a member, listed once
    assert {net.name: net.macs for net in inputs.nets} == {"ResNet-8": 747_136, "ResNet-14": 1_631_872}


def test_each_net_has_layer_responses(chain):
    nets = read_json(chain.workspace.result("responses"))
    assert {net["name"]: len(net["std"]) for net in nets} == {"ResNet-8": 7, "ResNet-14": 13}
    assert all(len(net["at_start"]["gradient"]) == len(net["gradient"]) for net in nets)
    assert all(min(net["std"]) > 0 and len(net["gradient"]) == len(net["std"]) for net in nets)
    assert {net["run_id"] for net in nets} == {member["run_id"] for member in chain.result["members"]}


def test_every_finished_training_is_tested_with_runs_all(workspace, tmp_path):
    chain = Chain(workspace())
    chain.run(train, set=("model.depth=14",))
    chain.run(train)
    chain.run(ensemble, evaluate, set=("ensemble.selection=top_k", "ensemble.size=1"))
    assert chain.result["others"] == chain.result["alternatives"] == []
    chain.run(train, set=("seed=1",))  # a named run that is no member
    chain.run(evaluate, set=("evaluation.runs=all",))
    (member,), (other,) = chain.result["members"], chain.result["others"]
    assert chain.result["run"]["seed"] == 1 and {member["name"], other["name"]} == {"ResNet-8", "ResNet-14"}
    assert other["weight"] is None and 0 < other["test_err1"] < 1
    assert len(read_json(chain.workspace.result("responses"))) == 3
    # Two seeds of ResNet-8, and two depths.
    assert [(e["size"], e["net"]) for e in chain.result["seeds_against_depths"]] == [(1, "ResNet-8"), (2, "ResNet-8")]
    assert chain.tracked()[other["run_id"]] == other["test_err1"]
    chain.run(evaluate, set=("evaluation.runs=all", f"paths.mlruns={tmp_path}/new"))  # where MLflow has nothing
    assert [net["key"] for net in chain.result["others"]] == [other["key"]]


def test_confusion_counts_each_test_image_once_and_leaves_out_large_test_sets(chain, monkeypatch):
    result, path = chain.result, chain.workspace.result("evaluate").parent / "confusion.csv"
    with path.open() as stream:
        rows = list(csv.DictReader(stream))
    counted = np.zeros((10, 10), int)
    for row in rows:
        counted[int(row["actual"]), int(row["predicted"])] += 1
    assert counted.tolist() == result["confusion"]
    assert (len(rows) - np.trace(counted)) / len(rows) == result["ensemble"]["test_err1"]
    assert [c["count"] for c in result["per_class"]] == counted.sum(1).tolist()
    monkeypatch.setattr(judge, "PLOTTED", len(rows) - 1)
    with restored(path):
        chain.run(evaluate)
        assert path.read_text() == "actual,predicted\n"


def test_the_surest_mistakes_are_kept_with_their_images(chain):
    records, found = open_store(chain.workspace.store("digits")).test(), read_json(chain.workspace.result("mistakes"))
    confidences = [one["confidence"] for one in found]
    assert len(found) == 12 and confidences == sorted(confidences, reverse=True)
    for one in found:
        assert str(records.labels[one["index"]]) == one["actual"] != one["predicted"]
        pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(one["png"]))))
        assert (pixels == np.asarray(records.images[one["index"]])[..., 0]).all()
    told, average = chain.result["calibration"], chain.result["ensemble"]
    assert sum(one["count"] for one in told["bins"]) == len(records)
    hits = sum(one["count"] * one["accuracy"] for one in told["bins"])
    assert hits / len(records) == pytest.approx(1 - average["test_err1"])


def test_mlflow_gets_test_errors_here_and_once(chain, monkeypatch):
    assert chain.tracked_before == [None] * 3
    result, model = chain.result, read_json(chain.workspace.ensemble / "members.json")["registered"]
    assert chain.tracked() == {
        **{member["run_id"]: member["test_err1"] for member in result["members"]},
        model["run_id"]: result["ensemble"]["test_err1"],
    }
    text = chain.workspace.result("evaluate").read_text()
    monkeypatch.setattr(predictions, "class_probabilities", lambda *_: 1 / 0)  # a second run needs no forward pass
    chain.run(evaluate)
    assert chain.workspace.result("evaluate").read_text() == text
    for run_id in chain.tracked():
        assert len(chain.mlflow.get_metric_history(run_id, "test_err1")) == 1


def test_without_mlflow_evaluate_warns_and_ensemble_refuses(chain, caplog):
    before, dead = chain.result, ("tracking.uri=http://127.0.0.1:9",)
    path = chain.workspace.result("evaluate")
    with restored(path):
        path.unlink()
        chain.run(evaluate, set=dead)
        before["run"]["run_id"] = ""  # that MLflow has none
        assert chain.result == before
    assert "MLflow lacks" in caplog.text and "evaluate.json" in caplog.text
    with pytest.raises(ValueError, match=r"MLflow at http://127.0.0.1:9 does not answer"):
        chain.run(ensemble, set=dead)


def test_test_errors_that_mlflow_missed_are_shipped_by_sync(chain, tmp_path, mlflow_database, request):
    request.addfinalizer(lambda: chain.run(sync))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    other = client(locate("", tmp_path / "other"))
    chain.run(sync, set=(f"paths.mlruns={tmp_path}/other",))  # runs, ensemble and test errors, from the journals alone
    runs = other.search_runs([other.get_experiment_by_name("digits").experiment_id])
    average = chain.result["ensemble"]["test_err1"]
    errors = [member["test_err1"] for member in chain.result["members"]]
    assert sorted(run.data.metrics["test_err1"] for run in runs) == sorted([*errors, average])
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert len(other.get_metric_history(run.info.run_id, "test_err1")) == 1
    report.run(chain.config(f"paths.mlruns={tmp_path}/other"), chain.workspace)  # whose ids of runs are others
    curves = chain.workspace.result("curves").with_suffix(".csv").read_text()
    assert all(member["key"] in curves for member in chain.result["members"])


def test_the_ensemble_stage_ships_journals_that_mlflow_lacks(chain, tmp_path, mlflow_database, request):
    request.addfinalizer(lambda: chain.run(ensemble))
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    chain.run(ensemble, set=(f"paths.mlruns={tmp_path}/new",))
    assert read_json(chain.workspace.ensemble / "members.json")["size"] == 2


def test_nets_trained_on_all_images_are_each_compared_with_their_ensemble(workspace, capsys):
    chain = Chain(workspace())
    full = "data.split=full"
    for seed in (0, 1):
        chain.run(train, set=(full, f"seed={seed}"))
    keys = ",".join(sorted(path.parent.name for path in chain.workspace.root.glob("runs/*/run.json")))
    chain.run(ensemble, evaluate, set=(full, "ensemble.selection=listed", f"ensemble.members=[{keys}]"))
    result, average = chain.result, chain.result["ensemble"]
    assert average["difference_to_best_member"] is None and average["mcnemar_p5"] is None
    for member, against in zip(result["members"], average["against_members"], strict=True):
        assert against["checkpoint_sha256"] == member["checkpoint_sha256"]
        for end, error in (("", "test_err1"), ("5", "test_err5")):
            difference = against[f"difference{end}"]
            assert difference["estimate"] == pytest.approx(average[error] - member[error])
            assert difference["ci95"][0] <= difference["estimate"] <= difference["ci95"][1]
            assert 0 <= against[f"mcnemar_p{end}"] <= 1
    output = capsys.readouterr().out
    assert output.count("member ResNet-8") == 2 and "best member" not in output


def test_a_named_run_on_all_images_has_no_validation_error(chain):
    with restored(*map(chain.workspace.result, ("train", "evaluate", "responses"))):
        chain.run(train, evaluate, set=("data.split=full",))
        assert chain.result["run"]["val_err1"] is None and chain.result["run"]["weight"] is None
        assert 0 <= chain.result["run"]["test_err1"] <= 1


def test_missing_inputs_are_errors_with_a_remedy(chain, tmp_path):
    with pytest.raises(FileNotFoundError, match="PIPELINE_RUNS"):  # the named run is on another machine
        chain.run(evaluate, set=(f"paths.runs={tmp_path}/elsewhere",))
    path = chain.workspace.ensemble / "members.json"
    with restored(path), pytest.raises(FileNotFoundError, match="is missing; `pipeline ensemble`"):
        path.unlink()
        chain.run(evaluate)


def test_an_ensemble_is_tested_and_reported_without_a_named_run(chain, capsys):
    path, before = chain.workspace.result("train"), chain.result
    with restored(path, chain.workspace.result("evaluate")):
        path.unlink()
        chain.run(evaluate, report)
        assert chain.result["run"] is None and chain.result["ensemble"] == before["ensemble"]
    assert "the ensemble is tested alone" in capsys.readouterr().out
    page = (chain.workspace.report / "index.html").read_text()
    assert "(named run)" not in page and "ensemble of 2" in page


def test_a_named_run_on_another_store_is_refused_before_the_test_images_are_opened(chain, monkeypatch):
    path = chain.workspace.result("train")
    monkeypatch.setattr(evaluate, "evaluation_images", None)
    sentence = r"train\.json is of a training on data ffffffffffff, .* run `pipeline train`"
    with restored(path), pytest.raises(ValueError, match=sentence):
        write_json(path, {**read_json(path), "data": "f" * 64})
        chain.run(evaluate)


def test_only_evaluation_opens_test_images():
    def calls(path: Path) -> set[str]:
        """Names of the methods that a module calls without arguments."""
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        return {n.func.attr for n in nodes if isinstance(n.func, ast.Attribute) and not n.args and not n.keywords}

    files, stages = [*(ROOT / "pipeline").rglob("*.py")], ROOT / "pipeline/stages"
    openers = [path for path in files if "test" in calls(path)]
    assert sorted(openers) == [ROOT / "pipeline/ensemble/predictions.py", stages / "detection/evaluate.py"]
    users = [path for path in files if "evaluation_images" in path.read_text() and path not in openers]
    assert users == [stages / "evaluate.py"]
