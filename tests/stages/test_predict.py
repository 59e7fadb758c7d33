"""`pipeline predict` on digits as image files, by the registered ensemble, by a run and by its weights."""

from __future__ import annotations

import csv
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from runs import Workspaces, composed

from pipeline.atomic import read_json, write_json
from pipeline.cli import main
from pipeline.data.listing import FORMATS
from pipeline.data.store import open_store
from pipeline.ensemble.predictions import evaluation_images, probabilities
from pipeline.run.weights import BEST
from pipeline.stages import ensemble, train
from pipeline.tracking.location import client, locate
from pipeline.tracking.registry import run_of
from pipeline.workspace import Workspace

QUICK = (
    *("model.depth=8", "recipe.max_steps=17", "trainer.accelerator=cpu", "ensemble.size=1"),
    "tracking.system_metrics_every_s=0",
)
COUNT = 12  # images
CPU = "trainer.accelerator=cpu"


class Trained(NamedTuple):
    root: Path
    weights: Path
    key: str
    probabilities: np.ndarray  # (COUNT, 10), as evaluated


@pytest.fixture(scope="module")
def digit(workspace: Workspaces) -> Trained:
    """A workspace with a run, its ensemble, and test images as files in digits/."""
    root = workspace()
    for stage in (train, ensemble):
        stage.run(composed(root, *QUICK), Workspace(root, "digits"))
    store, weights = open_store(root / "data/store/digits"), run_folder_of_training(root) / BEST
    records = store.test()
    (root / "digits").mkdir()
    for at in range(COUNT):
        Image.fromarray(records.images[at * 70][..., 0]).save(root / "digits" / f"{at:02d}.png")  # type: ignore[union-attr]
    values = probabilities(weights, evaluation_images(store), root / "cache", torch.device("cpu"))
    return Trained(root, weights, weights.parent.name, np.array(values[: COUNT * 70 : 70]))


def run_folder_of_training(root: Path) -> Path:
    (weights,) = (root / "runs").glob(f"*/{BEST}")
    return weights.parent


Predict = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predict(digit: Trained, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Predict:
    """Runs the command in the workspace; gives exit status, stdout and stderr."""
    monkeypatch.chdir(digit.root)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        status = main(["predict", *arguments, CPU])
        return status, *capsys.readouterr()

    return run


def rows(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def assert_as_evaluated(answers: list[dict[str, Any]], digit: Trained) -> None:
    assert [answer["image"] for answer in answers] == [f"digits/{at:02d}.png" for at in range(COUNT)]
    for answer, expected in zip(answers, digit.probabilities, strict=True):
        assert answer["class"] == str(expected.argmax()) == answer["top"][0]["class"]
        assert answer["probability"] == pytest.approx(expected.max(), abs=1e-5)
        top = [entry["probability"] for entry in answer["top"]]
        assert top == pytest.approx(np.sort(expected)[::-1][:5].tolist(), abs=1e-5)


def test_the_registered_ensemble_answers_with_the_probabilities_of_evaluation(digit: Trained, predict: Predict) -> None:
    status, printed, _ = predict("digits", "predict.output=json")
    assert status == 0
    assert_as_evaluated(rows(printed), digit)


def test_so_do_its_run_and_its_weights(digit: Trained, predict: Predict) -> None:
    config = composed(digit.root)
    run_id = run_of(locate("", config.paths.mlruns), digit.key).info.run_id
    for weights in (str(digit.weights.relative_to(digit.root)), f"run:{digit.key}", f"run:{run_id}"):
        status, printed, _ = predict("predict.output=json", "digits/*.png", f"predict.weights={weights}")
        assert status == 0, weights
        assert_as_evaluated(rows(printed), digit)


def test_csv_has_a_line_for_each_image_and_columns_for_each_class(digit: Trained, predict: Predict) -> None:
    status, printed, _ = predict("digits", "predict.output=csv", "predict.top=2")
    table = list(csv.DictReader(printed.splitlines()))
    assert status == 0 and list(table[0]) == ["image", "class", "probability", "class_2", "probability_2"]
    assert [row["class"] for row in table] == [str(row.argmax()) for row in digit.probabilities]


def test_a_table_is_for_people(digit: Trained, predict: Predict) -> None:
    status, printed, progress = predict("digits/03.png")
    expected = digit.probabilities[3]
    assert status == 0 and "resnet-ensemble-digits version 1" in printed and "digits/03.png" in printed
    assert f"{100 * expected.max():.2f} %" in printed and "1/1 images" in progress


def test_images_that_cannot_be_read_are_named_and_the_others_answered(digit: Trained, predict: Predict) -> None:
    shutil.copytree(digit.root / "digits", digit.root / "mixed")
    (digit.root / "mixed/02.png").write_text("no image")
    whole = (digit.root / "mixed/05.png").read_bytes()
    (digit.root / "mixed/05.png").write_bytes(whole[: len(whole) // 2])
    status, printed, errors = predict("mixed", "predict.output=json")
    assert status == 2 and len(rows(printed)) == COUNT - 2
    assert f"pipeline predict: 2 of {COUNT} images cannot be read and are named above" in errors
    status, printed, errors = predict("mixed/02.png", "predict.output=csv")
    assert (status, printed) == (2, "") and "the others" not in errors


def test_unreadable_images_are_named(digit: Trained, predict: Predict, caplog: Any) -> None:
    (digit.root / "bad.png").write_text("no image")
    assert predict("bad.png", "digits/00.png", "predict.output=csv")[0] == 2
    assert [record.message for record in caplog.records if "bad.png" in record.message] == [
        f"bad.png cannot be read: no image that is read here ({', '.join(FORMATS)})"
    ]


def test_a_run_that_has_not_finished_is_refused_and_the_remedy_works(digit: Trained, predict: Predict) -> None:
    written = read_json(digit.weights.with_name("run.json"))
    write_json(digit.weights.with_name("run.json"), {**written, "status": "interrupted"})
    try:
        status, _, errors = predict("digits/00.png", f"predict.weights=run:{digit.key}")
        assert status == 2 and "the run has not finished (its status is interrupted)" in errors
        (remedy,) = re.findall(r"predict\.weights=/\S+", errors)
        assert predict("digits/00.png", remedy)[0] == 0
    finally:
        write_json(digit.weights.with_name("run.json"), written)


def test_mlflow_has_what_is_damaged_or_lost_here(digit: Trained, predict: Predict) -> None:
    whole = digit.weights.read_bytes()
    try:
        for damage in (lambda: digit.weights.write_bytes(whole[:-1] + b"?"), digit.weights.unlink):
            damage()
            status, printed, errors = predict("digits", "predict.output=json", f"predict.weights=run:{digit.key}")
            assert status == 0 and "now MLflow's copy is used" in errors
            assert_as_evaluated(rows(printed), digit)
    finally:
        digit.weights.write_bytes(whole)


def test_a_run_that_mlflow_alone_has_and_that_goes_on_is_refused(digit: Trained, predict: Predict) -> None:
    mlflow = client(locate("", digit.root / "mlruns"))
    run = mlflow.create_run(mlflow.get_experiment_by_name("digits").experiment_id)
    status, _, errors = predict("digits", f"predict.weights=run:{run.info.run_id}")
    assert status == 2 and "the run has not finished (its status is running)" in errors
    mlflow.set_terminated(run.info.run_id, "FINISHED")
    status, _, errors = predict("digits", f"predict.weights=run:{run.info.run_id}")
    assert status == 2 and "checkpoints/best.safetensors of run" in errors and "is not in MLflow" in errors


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("", "predict needs images"),
        ("none.png", "none.png: no such file or folder"),
        ("conf", "conf holds no images"),
        ("digits data=cifar10", "no champion of resnet-ensemble-cifar10; `pipeline ensemble data=cifar10"),
        ("digits predict.weights=none.safetensors", "none.safetensors: no such file; name a file of weights"),
        ("digits predict.weights=params.yaml", "params.yaml"),
        ("digits predict.weights=run:0123456789ab", "has no such run, and MLflow at"),
        ("digits predict.weights=run:", "has no such run"),
        ("digits predict.output=xml", "predict.output"),
        ("digits --weights", "unknown option --weights"),
    ],
)
def test_a_mistake_is_one_sentence(arguments: str, sentence: str, predict: Predict) -> None:
    status, printed, errors = predict(*shlex.split(arguments))
    assert (status, printed) == (2, "") and errors.startswith("pipeline predict: ")
    assert sentence in errors and len(errors.strip().splitlines()) == 1


def test_a_file_whose_name_looks_like_an_override_can_be_named(digit: Trained, predict: Predict) -> None:
    shutil.copy(digit.root / "digits/00.png", digit.root / "seed=1.png")
    status, printed, _ = predict("./seed=1.png", "predict.output=json")
    assert status == 0 and rows(printed)[0]["image"] == "seed=1.png"
