"""The command that makes an experiment again, and the name of its published result."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from imports import ROOT

from pipeline.compose import compose
from pipeline.config import from_dict
from pipeline.report.experiment import command, experiment_name
from pipeline.run import key

SPACE = "sweep.space={model.depth:[8],recipe.lr:[0.1]}"
QUICK = ("data=cifar10", "recipe=cifar_quick", "ensemble=top_k", "ensemble.size=3")
ODD = ("data=imagenet", "data.path=/my images", "data.split=full", "recipe=imagenet_90", "model.stride_on=3x3", SPACE)
SEARCHED = ("sweep.search={space:{model.depth:[8],recipe.lr:[0.1,0.2]},take:[recipe.lr]}", "sweep.space={seed:[0,1]}")
UNSEARCHED = ("data=cifar100", "sweep=cifar_ensemble", "sweep.search=null")


# Each file of a group that differs is composed: a few say as much as all of them.
FILES = {
    "recipe": {"digits", "cifar_paper", "cifar_quick", "imagenet_paper", "imagenet_90"},
    "sweep": {"digits", "cifar", "imagenet", "transfer", "cifar_ensemble"},
    "ensemble": {"best_per_depth", "top_k"},
}

BIRDS = """# @package _global_
defaults: [/recipe: cifar_quick, /sweep: cifar, _self_]
data: {source: folder, path: /data/birds, image_size: 32}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    for group, kept in FILES.items():
        for path in (tmp_path / "conf" / group).glob("*.yaml"):
            if path.stem not in kept:
                path.unlink()
    (tmp_path / "params.yaml").write_text("data: digits\nrecipe: auto\n")
    return tmp_path


def composed(root: Path, *overrides: str) -> dict:
    return from_dict(compose(root, list(overrides))).to_dict()


def obey(words: str, root: Path) -> dict:
    """What `dvc exp run` would compose, by doing to params.yaml what its -S do."""
    from dvc.utils.hydra import apply_overrides

    before = (root / "params.yaml").read_text()
    given = [word for word in shlex.split(words)[3:] if word != "-S"]
    apply_overrides(str(root / "params.yaml"), given)
    try:
        return composed(root)
    finally:
        (root / "params.yaml").write_text(before)


def deciding(values: dict) -> dict:
    return {key: value for key, value in values.items() if key not in ("paths", "tracking")}


@pytest.mark.parametrize("overrides", [(), QUICK, ODD, SEARCHED, UNSEARCHED])
@pytest.mark.parametrize(
    "params",
    [
        "data: digits",
        pytest.param("data: cifar10\nrecipe: imagenet_paper\nset: {model: {depth: 50}}", marks=pytest.mark.slow),
    ],
)
def test_the_command_makes_the_configuration_in_any_workspace(root, overrides, params):
    values = composed(root, *overrides)
    params = {"recipe": "auto", "ensemble": "auto", "sweep": "auto", "model": "auto", **yaml.safe_load(params)}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    assert deciding(obey(command(values, root), root)) == deciding(values)


def test_the_command_is_short_where_files_say_it(root):
    assert command(composed(root), root) == "dvc exp run -S data=digits"
    assert command(composed(root, "data=cifar10"), root) == "dvc exp run -S data=cifar10"
    quick = "dvc exp run -S data=cifar10 -S recipe=cifar_quick -S ensemble=top_k -S ++set.ensemble.size=3"
    assert command(composed(root, *QUICK), root) == quick


def test_weights_that_the_data_sets_file_names_are_told_where_others_take_their_place(root):
    for group in ("recipe", "sweep"):
        shutil.copy(ROOT / "conf" / group / "detection_quick.yaml", root / "conf" / group)
    values = composed(root, "data=digit_scenes")
    assert command(values, root) == "dvc exp run -S data=digit_scenes"
    assert experiment_name(values, root) == "digit_scenes"
    values = composed(root, "data=digit_scenes", "start.weights=''", "start.backbone_lr=1")
    assert deciding(obey(command(values, root), root)) == deciding(values)
    assert experiment_name(values, root) != "digit_scenes"


def test_a_sweep_that_refers_to_the_given_weights_is_told_by_its_file(root):
    (root / "params.yaml").write_text("data: digits\nsweep: auto\n")
    values = composed(root, "data=cifar10", "sweep=transfer", "start.weights=data/net-20.safetensors")
    told = command(values, root)
    assert told == "dvc exp run -S data=cifar10 -S sweep=transfer -S ++set.start.weights=data/net-20.safetensors"
    assert deciding(obey(told, root)) == deciding(values)


def test_experiments_on_the_same_data_have_names_of_their_own(root):
    names = [
        experiment_name(composed(root, *overrides), root)
        for overrides in (("data=cifar10",), QUICK, ("data=cifar10", SPACE))
    ]
    assert names[:2] == ["cifar10", "cifar10-recipe.cifar_quick-ensemble.top_k-ensemble.size.3"]
    assert len(set(names)) == len(names)
    same = composed(root, *QUICK, "trainer.threads=2", "tracking.uri=http://there", "data.workers=3", "data.mirror=/m")
    assert experiment_name(same, root) == names[1]
    other = composed(root, *QUICK, "trainer.val_every_epochs=3")  # by which other weights may be the best
    assert "-trainer.val_every_epochs.3-" in experiment_name(other, root)

    # The number of ranks is named where it decides the weights.
    def named(*overrides):
        values = composed(root, "data=cifar10", *overrides)
        return experiment_name(values, root), key.deciding(from_dict(values))

    assert named("trainer.devices=2") == named()
    for per_rank in ("trainer.sync_batchnorm=false", "model=vgg_bn_small"):
        (first, one), (second, two) = (
            named(per_rank, "sweep.space={seed:[0,1]}", ranks) for ranks in ("trainer.devices=2", "trainer.num_nodes=4")
        )
        assert one != two and first != second
    swept = "sweep.space={model.family:[vgg_bn_small,cifar]}"  # dropout in the trials alone
    assert named(swept, "trainer.devices=2")[0] != named(swept, "trainer.devices=4")[0]


def test_a_long_or_odd_name_stays_a_file_name(root):
    name = experiment_name(composed(root, *ODD), root)
    assert name.startswith("imagenet-") and len(name) <= 100 and not set(name) & set("{}[]:,/ ")


def test_files_of_ones_own_are_told_by_their_values(root, tmp_path):
    own = tmp_path / "own"
    for name, text in {"recipe/mine": "defaults: [cifar_quick, _self_]\nlr: 0.07\n", "data/birds": BIRDS}.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / f"{name}.yaml").write_text(text)
    for choices in (["data=cifar10", "recipe=mine"], ["data=birds", "recipe=mine"]):
        values = from_dict(compose(root, choices, own)).to_dict()
        again = obey(command(values, root), root)
        assert {**deciding(again), "choices": {}} == {**deciding(values), "choices": {}}
        assert "0.07" in experiment_name(values, root)
