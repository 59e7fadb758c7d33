"""params.yaml, conf/ and the command line become one configuration."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from imports import ROOT

from pipeline.anchor import anchor
from pipeline.compose import choices, compose, require_no_lost_value
from pipeline.config import from_dict
from pipeline.documents import read_mapping
from pipeline.errors import PipelineError
from pipeline.stages import compose as compose_stage
from pipeline.workspace import Workspace


def root_with(tmp_path: Path, params: dict) -> Path:
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    return tmp_path


def test_params_yaml_chooses_and_the_command_line_wins(tmp_path):
    root = root_with(tmp_path, {"data": "cifar10", "recipe": "auto", "set": {"model": {"depth": 56}, "seed": 3}})
    chosen = from_dict(compose(root, []))
    assert (chosen.data.name, chosen.model.depth, chosen.seed) == ("cifar10", 56, 3)
    given = from_dict(compose(root, ["data=cifar100", "seed=4"]))
    assert (given.data.name, given.model.depth, given.seed) == ("cifar100", 56, 4)


def test_addresses_are_those_that_the_environment_has_when_a_command_runs(tmp_path, monkeypatch):
    def environment(host: str) -> None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://{host}:5000")
        monkeypatch.setenv("PIPELINE_STORAGE", f"s3://{host}/folder")
        monkeypatch.setenv("RAY_ADDRESS", f"{host}:6379")

    def addresses() -> tuple[str, ...]:
        config = anchor(from_dict(read_mapping(root / "composed.yaml")), root)
        return config.tracking.uri, config.cluster.storage, config.cluster.address

    root = root_with(tmp_path, {"data": "digits", "tracking": "server", "cluster": "ray"})
    environment("yesterday")
    compose_stage.run(from_dict(compose(root, [])), Workspace(root, "digits"))
    assert not any("yesterday" in path.read_text(encoding="utf-8") for path in root.rglob("*.yaml"))
    environment("today")
    # Of auto, Ray takes RAY_ADDRESS, or else the cluster of this machine; "" would start one.
    assert addresses() == ("http://today:5000", "s3://today/folder", "auto")
    monkeypatch.delenv("PIPELINE_STORAGE")
    assert addresses() == ("http://today:5000", "", "auto")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:hunter2@today")
    with pytest.raises(PipelineError, match=r"tracking\.uri=http://\*\*\*@today holds credentials"):
        addresses()
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    with pytest.raises(PipelineError, match=r"environment has no MLFLOW_TRACKING_URI; .*override: tracking=local"):
        addresses()


WORDS = (
    "` $ $HOME ${seed} $$ ${ } { (x) a,b a=b a:b ~ + ++x @ % # ! & * | > - ? true False yes null None 1 "
    "0x1f 1e3 -0.5 nan inf 1_000 2024-01-01 007 ??? //"
)
# fmt: off
NASTY = (
    '', ' ', 'a b', ' leading', 'trailing ', 'tab\there', 'line\nbreak', '\r', '\\', 'C:\\images', 'a\\',
    '\\\\host\\share', "'", '"', "it's", '"quoted"', "\\'", '\\"', '\'"', '\\${seed}', '{a: b}', '[1, 2]', 'a: b',
    'a # b', 'größe', '画像', 'emoji 🐦', "\xe9", "e\u0301", "\u200b", "\ue0000\ue001",
    "/a path/with 'quotes', {braces} and $signs",
    *WORDS.split(),
)
# fmt: on


def test_values_of_params_yaml_reach_the_configuration_as_they_are_written(tmp_path):
    root = root_with(tmp_path, {})
    (root / "params.yaml").write_text("")  # leaves every choice to conf/
    assert from_dict(compose(root, [])).data.name == "digits"
    for first in range(0, len(NASTY), 4):
        weights, address, mirror, runs = (NASTY[(first + index) % len(NASTY)] for index in range(4))
        under_set = {
            "start": {"weights": weights},
            "sweep": {"space": {"start.weights": list(NASTY)}},
            "cluster": {"address": address},
        }
        params = {"set": under_set, "paths": {"runs": runs}, "tracking": {"name": "auto", "uri": mirror}}
        (root / "params.yaml").write_text(yaml.safe_dump(params, allow_unicode=True), encoding="utf-8")
        config = from_dict(compose(root, []))
        assert (config.start.weights, config.cluster.address, config.tracking.uri) == (weights, address, mirror)
        assert (config.paths.runs, config.sweep.space) == (runs, {"start.weights": list(NASTY)})


KEYS = ["123456789012", "4e7000000000", "012345670123", "0123456789ab", "1" * 32]  # YAML has numbers of some of them


@pytest.mark.parametrize("form", ["ensemble: {{selection: listed, members: [{}]}}", "set: {{ensemble.members: [{}]}}"])
def test_keys_of_runs_that_look_like_numbers_stay_keys(form, tmp_path):
    root = root_with(tmp_path, {})
    (root / "params.yaml").write_text(form.format(", ".join(KEYS)))
    config = from_dict(compose(root, ["ensemble=listed"]))
    assert config.ensemble.members == KEYS
    (root / "params.yaml").write_text("")
    assert from_dict(compose(root, ["ensemble=listed", f"ensemble.members=[{', '.join(KEYS)}]"])) == config
    compose_stage.run(anchor(config, root), Workspace(root, "digits"))
    assert read_mapping(root / "composed.yaml")["ensemble"]["members"] == KEYS
    text = (root / "composed" / "ensemble.yaml").read_text()
    assert all(f"'{key}'" in text for key in KEYS)  # also for YAML 1.2, which DVC reads


def test_values_of_any_type_can_be_set(tmp_path):
    space = {"model.depth": [8], "recipe.lr": {"loguniform": [0.01, 0.1]}}
    params = {"set": {"sweep": {"space": space}, "data": {"skip_corrupt": True}, "recipe": {"augment": {"padding": 2}}}}
    chosen = from_dict(compose(root_with(tmp_path, params), []))
    assert chosen.sweep.space == space
    assert (chosen.data.skip_corrupt, chosen.recipe.augment.padding) == (True, 2)


@pytest.mark.parametrize(
    ("mapping", "keys"),
    [
        ("recipe.augment={erasing: 0.1}", ["recipe.augment.erasing=0.1"]),
        ("recipe={augment: {erasing: 0.1}, lr: 0.2}", ["recipe.augment.erasing=0.1", "recipe.lr=0.2"]),
        ("sweep.budget={hours: 2}", ["sweep.budget.hours=2"]),
    ],
)
def test_a_mapping_sets_its_own_keys_of_a_section_and_no_others(mapping, keys):
    assert compose(ROOT, [mapping]) == compose(ROOT, keys)


def test_a_mapping_leaves_limits_that_a_data_set_states_and_is_the_same_in_params_yaml(tmp_path):
    limits = compose(ROOT, ["data=coco", "data.limits={total_gb: 5}"])["data"]["limits"]
    assert limits["total_gb"] == 5 and limits["entry_mb"] == compose(ROOT, ["data=coco"])["data"]["limits"]["entry_mb"]
    root = root_with(tmp_path, {"data": "coco", "set": {"data.limits": {"total_gb": 5}}})
    assert compose(root, [])["data"]["limits"] == limits


def test_a_space_is_a_mapping_that_is_set_as_a_whole():
    search = "sweep.search={space: {model.depth: [8], recipe.lr: [0.1, 0.2]}, take: [recipe.lr]}"
    words = [search, "sweep.search.space={recipe.lr: [0.3]}", "sweep.space={model.depth: [14]}"]
    sweep = from_dict(compose(ROOT, words)).sweep
    assert (sweep.search.space, sweep.space) == ({"recipe.lr": [0.3]}, {"model.depth": [14]})


def test_a_data_set_has_the_name_of_its_file_or_of_its_path(tmp_path):
    root = root_with(tmp_path, {"data": "birds"})
    own = "# @package _global_\ndefaults: [folder, _self_]\ndata: {path: /images/2024.zip}\n"
    (root / "conf" / "data" / "birds.yaml").write_text(own)
    birds = from_dict(compose(root, []))
    assert (birds.data.name, birds.data.source, birds.recipe.schedule) == ("birds", "folder", "one_cycle")
    assert birds.choices == {
        "data": "birds",
        "recipe": "cifar_quick",
        "sweep": "cifar",
        "cluster": "local",
        "tracking": "local",
    }
    for path in ("/o'b/flowers", "/x/flowers", "/x/flowers/", "flowers.tgz", "/x/flowers.tar.gz", "flowers.zip"):
        assert from_dict(compose(root, ["data=folder", f"data.path={path}"])).data.name == "flowers"
    assert from_dict(compose(root, ["data=folder", "data.path=/x/flowers", "data.name=roses"])).data.name == "roses"
    assert from_dict(compose(root, ["data=digits"])).data.name == "digits"


def test_params_yaml_takes_values_by_section_and_choices_beside_them(tmp_path):
    recipe = {"name": "cifar_quick", "lr": 0.2, "momentum": None}
    ensemble = {"selection": "greedy", "size": 3}
    params = {"data": "cifar10", "recipe": recipe, "model": "vgg_small", "seed": 2, "ensemble": ensemble}
    chosen = from_dict(compose(root_with(tmp_path, params), []))
    assert (chosen.recipe.lr, chosen.recipe.momentum, chosen.recipe.max_steps) == (0.2, 0.9, 4212)
    assert (chosen.model.family, chosen.model.depth, chosen.model.residual, chosen.seed) == ("vgg_small", 16, False, 2)
    assert (chosen.ensemble.selection, chosen.ensemble.size) == ("greedy", 3)


def test_the_parameters_that_users_set_are_those_of_params_yaml():
    def apply(*words: str) -> dict:
        from dvc.utils.hydra import apply_overrides

        shutil.copy(ROOT / "params.yaml", "params.yaml")
        apply_overrides("params.yaml", list(words))
        return from_dict(compose(Path.cwd(), [])).to_dict()

    Path("conf").symlink_to(ROOT / "conf")
    assert apply("recipe.lr=0.2")["recipe"]["lr"] == 0.2
    assert apply("model.depth=20", "seed=3", "ensemble.selection=top_k")["ensemble"]["selection"] == "top_k"
    assert apply("data=cifar10", "model=vgg_bn_small", "evaluation.runs=all")["model"]["depth"] == 16
    assert apply("++set.model.depth=56", "+trainer.num_nodes=2")["trainer"]["num_nodes"] == 2
    both = apply("data=cifar10", "recipe.lr=0.2", "recipe.name=cifar_quick")["recipe"]
    assert (both["lr"], both["max_steps"]) == (0.2, 4212)
    with pytest.raises(ValueError, match=r"recipe\.lr and no recipe\.name; .*: dvc exp run -S \+\+recipe\.name=auto"):
        apply("recipe=cifar_quick", "+recipe.lr=0.2")


@pytest.mark.parametrize(
    ("words", "spelling"),
    [
        ("-S recipe.lr=0.2 -S recipe=cifar_quick", "write -S ++recipe.name=cifar_quick -S ++recipe.lr=0.2"),
        ("-n x --set-param ++model.depth=16 --set-param=model=vgg", "write -S ++model.family=vgg -S ++model.depth=16"),
    ],
)
def test_a_choice_that_drops_a_value_is_refused_with_the_spelling_that_keeps_both(words, spelling):
    with pytest.raises(ValueError, match=re.escape(spelling)):
        require_no_lost_value(["dvc", "exp", "run", *words.split()])


def test_an_ensemble_of_snapshots_is_refused_before_trainings_that_leave_none(tmp_path):
    root, snapshots = root_with(tmp_path, {}), "ensemble=snapshots"
    with pytest.raises(PipelineError, match=r"recipe\.cycles=1, .*; choose recipe=cifar_snapshots, or"):
        compose_stage.run(from_dict(compose(root, [snapshots])), Workspace(root, "digits"))
    assert not (root / "composed.yaml").exists()
    cosine, varied = "recipe.schedule=cosine", "sweep.space={recipe.cycles:[1,5]}"
    for words in (["recipe=cifar_snapshots"], [cosine, "recipe.cycles=6"], [cosine, varied]):
        compose_stage.run(from_dict(compose(root, [snapshots, *words])), Workspace(root, "digits"))
    assert read_mapping(root / "composed.yaml")["ensemble"]["selection"] == "snapshots"


def test_a_choice_before_other_values_loses_nothing():
    require_no_lost_value(
        ["dvc", "exp", "run", "-S", "data=cifar10", "-S", "recipe=cifar_quick", "-S", "model.depth=20", "-S", "seed=1"]
    )
    require_no_lost_value(
        ["dvc", "exp", "run", "-S", "recipe.name=cifar_quick", "-S", "recipe.lr=0.2", "-S", "++set.recipe.momentum=0"]
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("data: [", "params.yaml is no YAML: "),
        ("modle: x", "params.yaml holds modle; its keys are seed, data, model"),
        ("- data", "params.yaml holds a list instead of keys and values"),
        ("set: [seed]", "params.yaml: set=['seed']; it takes keys and values"),
        ("set: {sead: 1}", "sead is no key of the configuration"),
        (
            "data: {path: /images}",
            "its values belong under set: dvc exp run -S data=digits -S ++set.data.path=/images,",
        ),
        ("trainer: fast", "trainer='fast'"),
        ("data: auto", "holds data=auto, but dvc.yaml names files after the data set; name one (data: digits, or "),
        ("data: null", "holds data=null, but dvc.yaml names files after the data set; name one"),
        ("data: none", "data=none: there is no conf/data/none.yaml; choose one of "),
    ],
)
def test_a_params_yaml_of_the_wrong_form_is_refused(text, sentence, tmp_path):
    root = root_with(tmp_path, {})
    (root / "params.yaml").write_text(text)
    with pytest.raises(ValueError) as refused:
        from_dict(compose(root, []))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(("section", "value"), [("model", "vgg_small"), ("data", "cifar10"), ("model", None)])
def test_a_value_in_place_of_a_section_is_refused(tmp_path, section, value):
    root = root_with(tmp_path, {"data": "digits", "set": {section: value}})
    with pytest.raises(PipelineError, match=f"{section}={value!r}: Input should be a dictionary"):
        from_dict(compose(root, []))


@pytest.mark.parametrize("words", [["choices.recipe=cifar_paper"], ["+choices={recipe:cifar_paper}"]])
def test_how_it_was_composed_is_no_key(words):
    with pytest.raises(PipelineError, match=r"choices\S* is no key of the configuration"):
        compose(ROOT, words)


def test_a_conf_file_of_the_wrong_form_is_refused(tmp_path):
    root = root_with(tmp_path, {})
    (root / "conf" / "recipe" / "digits.yaml").write_text("lr: [")
    with pytest.raises(ValueError, match="while parsing"):
        compose(root, [])


def test_a_folder_of_ones_own_adds_files_to_the_choices(tmp_path: Path) -> None:
    own = tmp_path / "o'brien's größe, {own"
    (own / "recipe").mkdir(parents=True)
    (own / "recipe" / "mine.yaml").write_text("defaults: [digits, _self_]\nlr: 0.07\n")
    assert compose(ROOT, ["recipe=mine"], own)["recipe"]["lr"] == 0.07
    assert "mine" in choices(ROOT, own)["recipe"] and "mine" not in choices(ROOT)["recipe"]
    (own / "recipe" / "mine.yaml").rename(own / "recipe" / "digits.yaml")
    with pytest.raises(PipelineError, match=r"\{own/recipe/digits\.yaml has the name of a file of conf/; rename it"):
        compose(ROOT, [], own)
    (own / "recipe" / "digits.yaml").rename(own / "config.yaml")
    with pytest.raises(PipelineError, match=r"holds config\.yaml; its files lie in data/, recipe/, "):
        compose(ROOT, [], own)
    with pytest.raises(PipelineError, match=r"--config-dir \S+/none is no folder"):
        compose(ROOT, [], tmp_path / "none")
