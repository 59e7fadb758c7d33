"""What MLflow shows of a training: the parameters that people compare, its configuration, a note, its data set and model."""

from __future__ import annotations

from pathlib import Path

import yaml
from runs import run_folder, tracked

from pipeline.anchor import anchor
from pipeline.config import from_dict
from pipeline.run.described import CONFIG, FRONT, note
from pipeline.run.run import identify
from pipeline.tracking.location import client, locate


def test_the_parameters_are_those_that_people_compare_and_what_is_not_the_default(reference: Path) -> None:
    (run,) = tracked(reference)
    assert {"seed", "precision", *FRONT} <= run.params.keys()
    assert run.params["model.depth"] == "8" and run.params["recipe.augment.flip"] == "False"
    assert "recipe.momentum" not in run.params  # as usual
    assert len(run.params) < 40


def test_its_configuration_makes_the_same_run_in_another_workspace(reference: Path, tmp_path: Path) -> None:
    folder = run_folder(reference)
    config = anchor(from_dict(yaml.safe_load((folder / CONFIG).read_text())), tmp_path)
    assert config.paths.runs == str(tmp_path / "runs")
    assert identify(config, reference / "data" / "store" / "digits").key == folder.name


def test_of_several_runs_to_start_from_the_note_names_the_one_that_was_taken(reference: Path) -> None:
    folder = run_folder(reference)
    values = yaml.safe_load((folder / CONFIG).read_text())
    values["start"] |= {"weights": f"run:{folder.name},{folder.name}", "backbone_lr": 0.5}
    run = identify(anchor(from_dict(values), reference), reference / "data" / "store" / "digits")
    assert f"from run:{folder.name}, backbone at 0.5 of the rate: " in note(run)


def test_mlflow_names_the_data_set_and_describes_the_run(reference: Path) -> None:
    mlflow = client(locate("", reference / "mlruns"))
    (run,) = mlflow.search_runs(["1"])
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("digits", run.data.tags["pipeline.data"][:12])
    note = run.data.tags["mlflow.note.content"]
    assert note.startswith("ResNet-8 on digits") and run_folder(reference).name in note
    assert {artifact.path for artifact in mlflow.list_artifacts(run.info.run_id)} == {"checkpoints", "config"}
    (model,) = mlflow.search_logged_models(["1"], f"source_run_id = '{run.info.run_id}'")
    assert (model.name, model.status) == ("model", "READY")
