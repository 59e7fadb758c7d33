"""`pipeline publish weights`, and the three ways to take what it wrote by its name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from runs import Workspaces, composed

from pipeline.atomic import read_json, write_json
from pipeline.cli import main
from pipeline.data.store import open_store
from pipeline.run.weights import BEST, load_weights
from pipeline.stages import ensemble, evaluate, train
from pipeline.workspace import Workspace

QUICK = ("model.depth=8", "recipe.max_steps=17", "trainer.accelerator=cpu", "tracking.system_metrics_every_s=0")
CPU = "trainer.accelerator=cpu"


@pytest.fixture(scope="module")
def root(workspace: Workspaces) -> Path:
    """A workspace whose evaluation has tested two runs of ResNet-8 and one of ResNet-14."""
    made = workspace()
    for overrides in (("model.depth=14",), ("seed=1",), ()):
        train.run(composed(made, *QUICK, *overrides), Workspace(made, "digits"))
    for stage in (ensemble, evaluate):
        stage.run(composed(made, *QUICK, "evaluation.runs=all"), Workspace(made, "digits"))
    Image.fromarray(open_store(made / "data/store/digits").test().images[0][..., 0]).save(made / "seven.png")  # type: ignore[union-attr]
    return made


@pytest.fixture
def typed(root, monkeypatch):
    monkeypatch.chdir(root)
    return main


def test_each_net_is_copied_with_a_card_of_the_best_run_on_validation(root, typed, capsys):
    assert typed(["publish", "weights", "data=digits"]) == 0
    folder = root / "results" / "weights"
    assert sorted(path.name for path in folder.iterdir()) == [
        f"digits-resnet{depth}.{end}" for depth in (14, 8) for end in ("md", "safetensors")
    ]
    result = read_json(root / "experiments" / "digits" / "evaluate.json")
    rows = [row for row in (*result["members"], *result["others"], result["run"]) if row["model"]["depth"] == 8]
    best = min(rows, key=lambda row: row["val_err1"])
    assert (folder / "digits-resnet8.safetensors").read_bytes() == (root / "runs" / best["key"] / BEST).read_bytes()
    card = (folder / "digits-resnet8.md").read_text()
    low, high = (f"{100 * bound:.2f}" for bound in best["ci95"])
    assert f"{100 * best['test_err1']:.2f} % (95 % interval {low} to {high} %)" in card
    assert f"Run {best['key']}, seed {best['seed']}: 17 steps" in card and "published:digits-resnet8" in card
    assert f"{100 * best['test_err1']:.2f} %" in capsys.readouterr().out


def test_published_weights_start_trainings_and_predict(root, typed, capsys):
    typed(["publish", "weights", "ResNet-8", "data=digits"])
    record = load_weights(root / "results/weights/digits-resnet8.safetensors")[1]
    assert typed(["train", "data=digits", *QUICK, "seed=3", "start.weights=published:digits-resnet8"]) == 0
    started = read_json(root / "experiments" / "digits" / "train.json")
    assert started["start"] == "digits-resnet8.safetensors" and started["key"] != record.key
    capsys.readouterr()
    weights = "predict.weights=published:digits-resnet8"
    assert typed(["predict", "seven.png", "data=digits", CPU, "predict.output=json", weights]) == 0
    assert set(json.loads(capsys.readouterr().out)) >= {"class", "probability"}


@pytest.mark.parametrize(
    "command", [["train", *QUICK, "start"], ["predict", "seven.png", "predict"], ["export", "export"]]
)
def test_a_name_that_is_not_published_is_refused_with_those_that_are(command, root, typed, capsys):
    typed(["publish", "weights", "ResNet-8", "data=digits"])
    *words, section = command
    assert typed([*words, "data=digits", f"{section}.weights=published:digits-resnet9"]) == 2
    error = capsys.readouterr().err
    assert "published:digits-resnet9 is not in results/weights; choose one of " in error
    assert "published:digits-resnet8" in error


def test_runs_that_adopt_or_full_made_are_left_out_by_name_beside_others_and_alone(root, typed, capsys):
    path, file = root / "experiments/digits/evaluate.json", root / "results/weights/digits-resnet14.safetensors"
    kept = read_json(path)
    rows = [row for row in (*kept["members"], *kept["others"], kept["run"]) if row["model"]["depth"] == 14]
    full = {**rows[0], "key": "f" * 12, "split": "full", "val_err1": None, "val_err5": None}
    adopted = {**rows[0], "key": "a" * 12, "recipe": None, "val_err1": 0.0}
    snapshot = {**rows[0], "snapshot": 9, "val_err1": 0.0}  # of the run whose best weights are published
    try:
        write_json(path, {**kept, "others": [*kept["others"], full, adopted, snapshot]})
        assert typed(["publish", "weights", "ResNet-14", "data=digits"]) == 0
        printed = capsys.readouterr().out
        assert f"ResNet-14 {'f' * 12} is left out: without a validation error, data.split=full" in printed
        assert f"ResNet-14 {'a' * 12} is left out: adopted, so not trained here" in printed
        assert file.read_bytes() == (root / "runs" / rows[0]["key"] / BEST).read_bytes()
        file.unlink()
        write_json(path, {**kept, "members": [], "others": [full, adopted, snapshot], "run": None})
        assert typed(["publish", "weights", "data=digits"]) == 2 and not file.exists()
        assert "has no net trained here with data.split=holdout; `pipeline evaluate" in capsys.readouterr().err
    finally:
        write_json(path, kept)


def test_a_net_that_was_not_tested_is_refused_with_those_that_were(typed, capsys):
    assert typed(["publish", "weights", "ResNet-110", "data=digits"]) == 2
    assert "evaluate.json has ResNet-14, ResNet-8" in capsys.readouterr().err.replace(
        "ResNet-8, ResNet-14", "ResNet-14, ResNet-8"
    )
