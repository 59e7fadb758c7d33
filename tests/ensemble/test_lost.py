"""The registered ensemble where its folder was moved, or where MLflow has lost a part of it."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_world import World, choose

from pipeline.ensemble.build import Ensemble, build_ensemble
from pipeline.errors import MissingError
from pipeline.tracking import models
from pipeline.tracking.location import client, locate
from pipeline.tracking.sync import sync

NAME = "resnet-ensemble-tiny"


def built(world: World) -> Ensemble:
    return build_ensemble(world.source, choose("top_k", size=1), world.root / "ensemble", {})


def test_a_moved_database_serves_its_champion_from_the_new_place(world: World, tmp_path: Path) -> None:
    world.add_run(0.2)
    built(world)
    folder = Path(world.location.artifacts.removeprefix("file://")).parent
    moved = locate("", folder.rename(tmp_path / "moved"))
    assert not folder.exists()
    assert models.load(moved, NAME)[1] == 1


def test_a_lost_database_gets_the_runs_and_the_champion_again(world: World) -> None:
    world.add_run(0.2)
    first = built(world)
    folder = Path(world.location.artifacts.removeprefix("file://")).parent
    shutil.rmtree(folder)
    with pytest.raises(MissingError, match=r"no champion of .*; `pipeline ensemble`"):
        models.load(world.location, NAME)
    sync(world.runs, world.location)
    again = built(world)
    assert again.registered["run_id"] != first.registered["run_id"] and again.members[0].key == first.members[0].key
    assert models.load(world.location, NAME)[1] == 1


def flipped(weights: Path) -> None:
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {  # to the folder of a model
    "no files": shutil.rmtree,
    "no weights": lambda folder: next(folder.rglob("*.safetensors")).unlink(),
    "other weights": lambda folder: flipped(next(folder.rglob("*.safetensors"))),
    "no YAML": lambda folder: (folder / "MLmodel").write_text("{"),
    "no module": lambda folder: next(folder.rglob("code/*/ensemble/carried.py")).unlink(),
    "code of another torch": lambda folder: (folder / "model.py").write_text(
        (folder / "model.py").read_text() + "\nEnsembleModel._load = lambda self, context: torch.of_another_version\n"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_champion_that_does_not_load_is_registered_anew(
    damage: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_run(0.2, seed=3)
    assert built(world).registered["version"] == built(world).registered["version"] == 1
    (described,) = Path(world.location.artifacts.removeprefix("file://")).rglob("MLmodel")
    DAMAGES[damage](described.parent)
    for name in [name for name in sys.modules if name.startswith("pipeline_")]:
        monkeypatch.delitem(sys.modules, name)  # which a process that starts later does not have
    with pytest.raises(MissingError, match=rf"^{NAME} version 1 cannot be loaded .*; `pipeline ensemble`.* it anew$"):
        models.load(world.location, NAME)
    assert built(world).registered["version"] == 2
    assert models.load(world.location, NAME)[1] == 2


def test_an_ensembles_own_run_is_restored_when_it_is_made_again(world: World) -> None:
    world.add_run(0.2)
    run = built(world).registered["run_id"]
    client(world.location).delete_run(run)
    assert built(world).registered["run_id"] == run
    assert client(world.location).get_run(run).info.lifecycle_stage == "active"
