"""The last stages on real parts: digits, two short trainings, an ensemble of them, and what evaluation says."""

from __future__ import annotations

import ast
import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import a_net, composed

from pipeline.atomic import read_json, write_json
from pipeline.data.store import open_store
from pipeline.ensemble import judge, predictions
from pipeline.evaluation.errors import wrong
from pipeline.evaluation.intervals import wilson
from pipeline.learn.models import build_model
from pipeline.report.inputs import ReportInputs
from pipeline.run.weights import load_weights
from pipeline.stages import ensemble, evaluate, report, train
from pipeline.tracking.location import client, locate
from pipeline.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
QUICK = (
    "model.depth=8",
    "recipe.max_steps=17",
    "trainer.accelerator=cpu",
    "tracking.system_metrics_every_s=0",
)


class Chain:
    """Stages run one after the other in a workspace that holds the digits' store."""

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
    def location(self):
        config = self.config()
        return locate(config.tracking.uri, config.paths.mlruns)


@pytest.fixture(scope="module")
def chain(workspace) -> Chain:
    made = Chain(workspace())
    made.run(train, set=("model.depth=14",))
    made.run(train, ensemble)
    made.tests_before = [run.data.metrics.get("test/err1") for run in _runs(made)]
    made.run(evaluate)
    return made


def _runs(chain: Chain):
    mlflow_client = client(chain.location)
    experiment = mlflow_client.get_experiment_by_name("digits")
    return mlflow_client.search_runs([experiment.experiment_id])


def test_errors_are_those_of_the_nets_on_the_test_images(chain):
    store = open_store(chain.workspace.store("digits"))
    images, labels = np.array(store.test().images), store.test().labels
    statistics = store.statistics("holdout")
    for member in chain.result["members"]:
        folder = Path(chain.config().paths.runs) / member["key"]
        state, record = load_weights(folder / "best.safetensors")
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


def test_the_result_is_what_the_report_reads(chain):
    manifest = open_store(chain.workspace.store("digits")).manifest
    data = {"name": manifest.name, "classes": list(manifest.classes), "counts": manifest.counts}
    inputs = ReportInputs(data=data, evaluation=chain.result)
    assert len(inputs.members) == 2 and inputs.ensemble["size"] == 2
    assert inputs.best_member.val_err1 == min(member.val_err1 for member in inputs.members)
    assert inputs.named_run.model.depth == 8 and len(inputs.nets) == 2  # the named run is a member, told once
    assert {net.name: net.macs for net in inputs.nets} == {"ResNet-8": 747_136, "ResNet-14": 1_631_872}


def test_the_error_is_told_for_each_number_of_members(chain):
    told, whole = chain.result["ensemble"]["by_size"], chain.result["ensemble"]
    assert [entry["size"] for entry in told] == [1, 2]
    assert told[0]["test_err1"] == chain.result["members"][0]["test_err1"]
    assert (told[1]["test_err1"], told[1]["ci95"]) == (whole["test_err1"], whole["ci95"])
    assert told[1]["val_err1"] == whole["val_err1"]


def test_each_net_tells_what_its_layers_answer(chain):
    told = read_json(chain.workspace.result("responses"))
    assert {net["name"]: len(net["std"]) for net in told} == {
        "ResNet-8": 7,
        "ResNet-14": 13,
    }  # the named run is a member
    assert all(min(net["std"]) > 0 and len(net["gradient"]) == len(net["std"]) for net in told)
    assert {net["run_id"] for net in told} == {member["run_id"] for member in chain.result["members"]}


def test_every_finished_training_is_tested_where_it_is_asked_for(workspace):
    chain = Chain(workspace())
    chain.run(train, set=("model.depth=14",))
    chain.run(train)
    chain.run(ensemble, evaluate, set=("ensemble.selection=top_k", "ensemble.size=1"))
    assert chain.result["others"] == []
    chain.run(train, set=("seed=1",))  # a named run that is no member
    chain.run(evaluate, set=("evaluation.runs=all",))
    (member,), (other,) = chain.result["members"], chain.result["others"]
    assert chain.result["run"]["seed"] == 1 and {member["name"], other["name"]} == {"ResNet-8", "ResNet-14"}
    assert other["weight"] is None and 0 < other["test_err1"] < 1
    assert len(read_json(chain.workspace.result("responses"))) == 3
    # Two seeds of resnet8, and two depths.
    assert [(e["size"], e["net"]) for e in chain.result["seeds_against_depths"]] == [(1, "ResNet-8"), (2, "ResNet-8")]
    told = {run.info.run_id: run.data.metrics for run in _runs(chain)}
    assert told[other["run_id"]]["test/err1"] == other["test_err1"]


def test_data_and_members_are_described(chain):
    result = chain.result
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
    named = next(member for member in result["members"] if member["model"]["depth"] == 8)
    assert result["run"] == named


def test_confusion_counts_each_test_image_once(chain):
    result = chain.result
    with (chain.workspace.result("evaluate").parent / "confusion.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    counted = np.zeros((10, 10), int)
    for row in rows:
        counted[int(row["actual"]), int(row["predicted"])] += 1
    assert counted.tolist() == result["confusion"]
    missed = len(rows) - np.trace(counted)
    assert missed / len(rows) == result["ensemble"]["test_err1"]
    assert [c["count"] for c in result["per_class"]] == counted.sum(1).tolist()


def test_large_test_sets_are_not_listed_image_by_image(chain, monkeypatch):
    path = chain.workspace.result("evaluate").parent / "confusion.csv"
    text = path.read_text()
    monkeypatch.setattr(judge, "PLOTTED", 359)
    chain.run(evaluate)
    assert path.read_text() == "actual,predicted\n"
    monkeypatch.undo()
    chain.run(evaluate)
    assert path.read_text() == text


def test_mlflow_learns_test_errors_here_and_only_once(chain, monkeypatch):
    assert chain.tests_before == [None] * 3
    told = {run.info.run_id: run.data.metrics["test/err1"] for run in _runs(chain)}
    result = chain.result
    assert told == {
        **{member["run_id"]: member["test_err1"] for member in result["members"]},
        read_json(chain.workspace.ensemble / "members.json")["registered"]["run_id"]: result["ensemble"]["test_err1"],
    }
    text = chain.workspace.result("evaluate").read_text()
    monkeypatch.setattr(predictions, "class_probabilities", lambda *_: 1 / 0)  # a second run needs no forward pass
    chain.run(evaluate)
    assert chain.workspace.result("evaluate").read_text() == text
    for run_id in told:
        assert len(client(chain.location).get_metric_history(run_id, "test/err1")) == 1


def test_without_mlflow_the_result_is_written_and_a_warning_given(chain, caplog):
    before = read_json(chain.workspace.result("evaluate"))
    chain.workspace.result("evaluate").unlink()
    chain.run(evaluate, set=("tracking.uri=http://127.0.0.1:9",))
    before["run"]["run_id"] = ""  # at that MLflow it has none
    assert read_json(chain.workspace.result("evaluate")) == before
    assert "does not answer" in caplog.text and "evaluate.json" in caplog.text


def test_the_ensemble_stage_needs_mlflow(chain):
    with pytest.raises(ValueError, match=r"MLflow at http://127.0.0.1:9 does not answer"):
        chain.run(ensemble, set=("tracking.uri=http://127.0.0.1:9",))


def test_the_ensemble_stage_ships_what_mlflow_has_not_seen(chain, tmp_path, mlflow_database):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "mlflow.db").write_bytes(mlflow_database.read_bytes())
    chain.run(ensemble, set=(f"paths.mlruns={tmp_path}/new",))
    assert read_json(chain.workspace.ensemble / "members.json")["size"] == 2
    chain.run(ensemble)


def test_a_named_run_on_all_images_has_no_validation_error(chain):
    before = chain.workspace.result("train").read_text()
    chain.run(train, evaluate, set=("data.split=full",))
    assert chain.result["run"]["val_err1"] is None and chain.result["run"]["weight"] is None
    assert 0 <= chain.result["run"]["test_err1"] <= 1
    chain.workspace.result("train").write_text(before)
    chain.run(evaluate)


def test_a_missing_result_names_the_stage_that_makes_it(chain):
    path = chain.workspace.ensemble / "members.json"
    text = path.read_text()
    path.unlink()
    with pytest.raises(FileNotFoundError, match="`dvc repro ensemble` makes it"):
        chain.run(evaluate)
    path.write_text(text)


def test_an_ensemble_is_tested_and_reported_without_a_named_run(chain, capsys):
    path = chain.workspace.result("train")
    text, before = path.read_text(), chain.result
    path.unlink()
    chain.run(evaluate, report)
    assert chain.result["run"] is None and chain.result["ensemble"] == before["ensemble"]
    assert "the ensemble is tested alone" in capsys.readouterr().out
    page = (chain.workspace.report / "index.html").read_text()
    assert "(named run)" not in page and "ensemble of 2" in page
    path.write_text(text)
    chain.run(evaluate)


def test_a_named_run_on_another_store_is_refused_before_the_test_images_are_opened(chain, monkeypatch):
    path = chain.workspace.result("train")
    text = path.read_text()
    monkeypatch.setattr(evaluate, "all_images", None)
    write_json(path, {**read_json(path), "data": "f" * 64})
    with pytest.raises(ValueError, match=r"train\.json is of a training on data ffffffffffff, .* run `pipeline train`"):
        chain.run(evaluate)
    path.write_text(text)


def test_a_named_run_from_another_machine_says_what_to_do(chain, tmp_path):
    with pytest.raises(FileNotFoundError, match="PIPELINE_RUNS"):
        chain.run(evaluate, set=(f"paths.runs={tmp_path}/elsewhere",))


LABELS = np.array([0, 1, 2, 2])
RIGHT, HALF = np.eye(4)[LABELS], np.eye(4)[[0, 1, 0, 1]]


def test_the_best_member_is_chosen_by_validation_not_by_test():
    members = [(a_net(run_id="better on test", val_err1=0.2), RIGHT), (a_net(run_id="chosen", val_err1=0.1), HALF)]
    best = judge.best_member(members)
    comparison = judge.compared(RIGHT, best, LABELS)
    difference = comparison["difference_to_best_member"]
    assert difference["run_id"] == "chosen" and difference["estimate"] == -0.5
    assert comparison["mcnemar_p"] == 0.5  # two images, both won
    assert comparison["difference_to_best_member5"]["estimate"] == 0.0  # there are four classes
    unknown = [(a_net(run_id="first", val_err1=0.3), HALF), (a_net(run_id="second"), HALF)]
    assert judge.best_member(unknown)[0].run_id == "first"


def test_top_5_errors_have_an_interval_of_their_own():
    labels, p = np.zeros(50, int), np.tile(np.arange(6.0), (50, 1))
    p[:40, 0] = 9.0  # ten images have their class ranked last of six
    errors = judge.errors_of(p, labels)
    assert (errors["test_err1"], errors["test_err5"]) == (0.2, 0.2)
    p[40:45, 0] = 4.5
    errors = judge.errors_of(p, labels)
    assert (errors["test_err1"], errors["test_err5"]) == (0.2, 0.1)
    assert errors["ci95"] == list(wilson(10, 50)) and errors["ci95_err5"] == list(wilson(5, 50))


def test_classes_without_test_images_have_no_error():
    assert judge.errors_by_class(HALF, LABELS, "abcd") == [
        {"class": "a", "test_err1": 0.0, "count": 1},
        {"class": "b", "test_err1": 0.0, "count": 1},
        {"class": "c", "test_err1": 1.0, "count": 2},
        {"class": "d", "test_err1": None, "count": 0},
    ]


def calls_of(path: Path) -> set[str]:
    """Names of the methods that a module calls without arguments."""
    return {
        node.func.attr
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and not node.args and not node.keywords
    }


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    froms = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    return {name.split(".")[0] for name in froms | names}


def modules() -> list[Path]:
    return sorted((ROOT / "pipeline").rglob("*.py"))


def test_only_evaluation_opens_test_images():
    openers = [str(path.relative_to(ROOT)) for path in modules() if "test" in calls_of(path)]
    assert openers == ["pipeline/stages/evaluate.py"]


def test_only_tracking_and_the_served_model_import_mlflow():
    importers = [path.relative_to(ROOT / "pipeline") for path in modules() if "mlflow" in imports_of(path)]
    assert {str(path) for path in importers if path.parts[0] != "tracking"} == {"ensemble/model.py"}
