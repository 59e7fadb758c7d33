"""Configuration: every choice composes; what cannot be is one sentence."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml
from imports import ROOT, attributes

from pipeline.anchor import anchor
from pipeline.cli import main
from pipeline.compose import choices, compose
from pipeline.config import DETECTORS, LARGE_STEM, from_dict, with_overrides
from pipeline.errors import PipelineError
from pipeline.tuning import search
from pipeline.tuning.space import example_points
from pipeline.tuning.trial import trial_config

DATA = choices(ROOT)["data"]
# Own images: a fifth. Others: as many as published results took.
NUM_VAL = {"folder": 0, "boxes": 0, "imagenette": 500, "imagenette32": 500, "cifar10": 5000}


def values(*overrides: str) -> dict:
    path = ["data.path=/images"] if {"data=folder", "data=boxes", "data=imagenet"} & set(overrides) else []
    return compose(ROOT, [*overrides, *path])


@pytest.mark.parametrize("data", DATA)
def test_every_data_set_composes_with_what_suits_it(data):
    config = from_dict(values(f"data={data}"))
    config.check_composed()
    assert config.data.name == ("images" if data in ("folder", "boxes") else data)
    assert config.recipe.augment.crop <= config.data.image_size or config.data.format == "shards"
    assert config.data.num_val == NUM_VAL.get(data, config.data.num_val)


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, names in choices(ROOT).items() for name in names if group != "data"]
)
def test_every_choice_composes(group, name):
    large = name.startswith("imagenet") or name in ("ten_crop", "multi_scale", *LARGE_STEM)
    members = ["ensemble.members=[0123456789ab]"] if name == "listed" else []
    recipe = ["recipe=cifar_constant"] if name == "cifar_pbt" else []  # the one without a schedule of its own
    detects = name.startswith(("detection", *DETECTORS))
    data = "imagenette" if large else "digit_scenes" if detects else "cifar10"
    from_dict(values(f"data={data}", f"{group}={name}", *members, *recipe)).check_composed()


def keys(config: object, section: str = "config") -> set[tuple[str, str]]:
    """Each key of the configuration with the section that it stands in."""
    own = {(section, field.name) for field in fields(config)}
    parts = [(name, getattr(config, name)) for _, name in own]
    return own.union(*(keys(part, name) for name, part in parts if is_dataclass(part)))


def unread(wanted: set[tuple[str, str]]) -> set[tuple[str, str]]:
    files = [path for path in (ROOT / "pipeline").rglob("*.py") if path.parent.name != "config"]
    return wanted - set().union(*map(attributes, files))


PLATEAU = ("data=imagenet", "data.path=/images")


def test_each_key_of_the_configuration_is_read_by_some_code():
    assert not unread(keys(from_dict(values())))
    # Names that other objects have are not taken for keys.
    strange = {("recipe", "name"), ("sweep", "path"), ("augment", "split"), ("trainer", "lr")}
    assert unread(strange) == strange


PBT = (
    *("sweep.searcher=pbt", "sweep.space={recipe.lr:{loguniform:[0.01,1]}}", "sweep.interval_steps=30"),
    *("recipe.schedule=multistep", "recipe.warmup_fraction=0"),
)


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.depht=20"], "model.depht is no key of the configuration"),
        (
            ["data=cifar11"],
            "data=cifar11: there is no conf/data/cifar11.yaml; choose one of boxes, cifar10, cifar100, coco",
        ),
        (["model.depth=21"], "model.depth=21 is not 6n+2"),
        (["data=imagenette", "model=vgg", "evaluation=multi_scale"], "which has no fully convolutional form"),
        (["data=imagenette", "model.depth=20"], "which is not in Table 1; ImageNet nets are 18"),
        (["model.shortcut=C"], "model.shortcut=C is defined for the ImageNet nets"),
        (["recipe.batch_size=many"], "recipe.batch_size='many'"),
        (["trainer.devices=3"], "recipe.batch_size=32 does not divide over 3 ranks"),
        (["data=folder"], "data.source=folder without data.path"),
        (["data=folder", "data.path=/x/digits.v2"], "digits, _ and - (override: data.name=digits_v2)"),
        (["data.name=a/b"], "data.name='a/b'; it names folders and a model in MLflow's registry"),
        (["trainer=default"], "trainer='default'"),
        (["~seed"], "~seed: give a key one value"),
        (["recipe.schedule=multistep", "recipe.milestones=[9,9]"], "(override: recipe.milestones=[9])"),
        (["data=voc", "recipe.max_steps=60"], "recipe.max_steps=60 (override: recipe.milestones=[])"),
        (["recipe.schedule=plateau"], "recipe.plateau_patience=0 with recipe.schedule=plateau; wait for"),
        (["recipe.schedule=cosine", "recipe.milestones=[9]"], "recipe.schedule=cosine takes no milestones"),
        (["recipe.schedule=cosine", "recipe.warmup_lr=0.1"], "recipe.schedule=cosine takes no warmup_lr"),
        (["recipe.warmup_fraction=0"], "recipe.warmup_fraction=0.0 with recipe.schedule=one_cycle"),
        (["recipe.schedule=multistep"], "recipe.warmup_fraction=0.25 with recipe.schedule=multistep, which does"),
        (["recipe.small_fraction=0.5"], "recipe.small_fraction=0.5 with recipe.small_side=0, which shrinks no images"),
        (["recipe.augment.pca_std=0.1"], "recipe.augment.pca_std=0.1 with kind=pad_crop; 0 for none, or above 0"),
        ([*PLATEAU, "data.split=full"], "recipe.schedule=plateau with data.split=full, which validates on nothing"),
        (
            [*PLATEAU, "trainer.val_every_epochs=2"],
            "plateau with trainer.val_every_epochs=2; recipe.plateau_patience counts",
        ),
        ([*PLATEAU, "recipe.plateau_patience=0"], "recipe.plateau_patience=0 with"),
        (["evaluation=ten_crop"], "evaluation.views=ten_crop with data.format=arrays; small images have a single view"),
        (["data=cifar10", "model=vgg"], "model.family=vgg with images of 32 pixels; choose its form for small images"),
        (["model=vgg_small", "model.depth=16"], "model.family=vgg_small with images of 8 pixels; it needs at least 32"),
        (["data=cifar10", "model=vgg_small", "model.depth=20"], "it has 11, 13, 16, 19 layers and no shortcuts"),
        (["data=cifar10", "model=alexnet_small", "model.residual=true"], "it has 8 layers and no shortcuts (override:"),
        (["model.init_fan=fan_avg"], "model.init_fan='fan_avg'"),
        (["sweep.space={model.deep:[8]}"], "sweep.space names model.deep, which is no key"),
        (["sweep.space={trainer.devices:[1]}"], "a sweep varies model"),
        (["sweep.space=[{seed:[0]},{model.deep:[8]}]"], "sweep.space names model.deep, which is no key"),
        (["recipe.schedule=cosine", "recipe.cycles=7"], "with cosine a number that divides the steps"),
        (["start.backbone_lr=0"], "start.backbone_lr=0.0 with start.weights=''; it must be 1"),
        (["sweep.space=[{seed:[0]},{}]"], "sweep.space is empty"),
        (["sweep.search.take=[seed]"], "sweep.search.space has no value; set it in conf/ or on the command line"),
        (["sweep.search={space:{},take:[seed]}"], "sweep.search.space={}; name keys and the values to try"),
        (["sweep.search={space:{seed:[]},take:[seed]}"], "sweep.search.space={'seed': []}; name keys and the values"),
        (["sweep.search={space:{trainer.devices:[1]},take:[trainer.devices]}"], "a search varies model.*, recipe.*"),
        (
            ["sweep.search={space:{model.deep:[8]},take:[model.deep]}"],
            "sweep.search.space names model.deep, which is no",
        ),
        (
            ["sweep.search={space:{seed:[0]},take:[]}"],
            "sweep.search.take=[]; name one or more of the keys of sweep.sea",
        ),
        (["sweep.search={space:{seed:[0]},take:[recipe.lr]}"], "sweep.search.take=['recipe.lr']; name one or more of"),
        (
            ["sweep.search={space:{recipe.lr:[0.1]},take:[recipe.lr]}"],
            "remove it from sweep.space or from sweep.search",
        ),
        (["data=imagenette", "recipe=cifar_quick"], "recipe.augment.kind=pad_crop with data.format=shards"),
        (["data=imagenette", "recipe.augment.crop=224"], "recipe.augment.crop=224 with test_side=144; a test image's"),
        (["data=cifar10", "data.image_size=64"], "whose images are 32 pixels wide (override: data.format=arrays data"),
        (["data=cifar100", "data.format=shards"], "data.format=shards and data.image_size=32 with data.source=cifar1"),
        (["data=digits", "data.image_size=16"], "(override: data.format=arrays data.image_size=8)"),
        (
            ["data.num_test=0"],
            "data.num_test=0 with data.source=digits; digits, digit_scenes, digit_objects, which are published without a test set",
        ),
        (
            ["data=cifar10", "data.num_test=9"],
            "data.num_test=9 with data.source=cifar10; digits, digit_scenes, digit_objects, which are published with",
        ),
        (
            ["data=imagenet", "data.path=/x", "data.layout=classes"],
            "data.layout=classes with data.source=imagenet, whose",
        ),
        (["data=cifar10", "data.labels=a.csv"], "data.labels=a.csv with data.source=cifar10, whose layout is fixed"),
        (
            ["data=folder", "data.path=/x/a", "data.labels=a.csv", "data.layout=splits"],
            "data.labels=a.csv with data.layout=splits, which reads no table",
        ),
        (["data=cifar10", "data.path=/images"], "data.path=/images with data.source=cifar10, which reads no data.path"),
        (
            ["recipe.accumulate=3"],
            "over 1 ranks (trainer.devices=1 x trainer.num_nodes=1) in recipe.accumulate=3 parts;",
        ),
        (["recipe.accumulate=0"], "recipe.accumulate=0; it must be at least 1"),
        (
            ["recipe.stop_patience=1", "data.split=full"],
            "recipe.stop_patience=1 with data.split=full, which validates on",
        ),
        (
            [*PBT, "recipe.stop_patience=1"],
            "recipe.stop_patience=1 with sweep.searcher=pbt, where one training goes on",
        ),
        (["recipe.optimizer=adamw"], "recipe.nesterov=true with recipe.optimizer=adamw, which has no momentum of that"),
        (["recipe.clip_norm=-1"], "recipe.clip_norm=-1.0; it must be at least 0"),
        (["recipe.augment.mixup=101"], "recipe.augment.mixup=101.0; it must be at least 0 and at most 100"),
        (
            ["recipe.augment.cutmix=1", "recipe.batch_size=1"],
            "mixed with another one of its part of the batch, so take parts of at least 2 (override: recipe.batch_size=2)",
        ),
        (["recipe.label_smoothing=1.0"], "recipe.label_smoothing=1.0; it must be at least 0 and below 1"),
        (["trainer.threads=-1"], "trainer.threads=-1; it must be at least 0"),
        (["sweep.reduction_factor=1"], "sweep.reduction_factor=1; 0 turns ASHA off, else at least 2"),
        (["sweep.scheduler=hyperband"], "Hyperband needs at least 2 (override: sweep.reduction_factor=3)"),
        (
            ["sweep.scheduler=pbt", "sweep.reduction_factor=3"],
            "sweep.scheduler='pbt': Input should be 'asha' or 'hyperband'",
        ),
        (["sweep.searcher=tpe"], "sweep.searcher=tpe with sweep.num_samples=1; that is how many trials it suggests"),
        (
            ["sweep.searcher=pbt"],
            "a population varies the learning rate alone, from a range (override: sweep.space={reci",
        ),
        ([*PBT, "sweep.reduction_factor=3"], "members of a population copy each other instead of being stopped"),
        ([*PBT, "sweep.num_samples=3"], "sweep.population says how many members there are"),
        ([*PBT, "sweep.interval_steps=70"], "the interval must divide the steps into two or more parts"),
        ([*PBT, "sweep.interval_steps=0"], "(override: sweep.interval_steps=30)"),
        ([*PBT, "sweep.interval_steps=300"], "sweep.interval_steps=300 and recipe.max_steps=300"),
        ([*PBT, "recipe.schedule=one_cycle", "recipe.warmup_fraction=0.2"], "a population finds the schedule itself"),
        ([*PBT, "recipe.milestones=[100]"], "(override: recipe.schedule=multistep recipe.milestones=[] recipe.warm"),
        ([*PBT, "seed=4294967290"], "members take the seeds from there on, at most 4294967295"),
        (["sweep.quantile=0.6"], "sweep.quantile=0.6; it must be above 0 and at most 0.5"),
        (["sweep.population=1"], "sweep.population=1; it must be at least 2"),
        (["sweep.budget.hours=-1"], "sweep.budget.hours=-1.0; it must be at least 0"),
        (["sweep.budget.days=1"], "sweep.budget.days is no key of the configuration"),
        (["sweep.space=[{recipe.lr:{uniform:[0.2,0.1]}}]"], "the first end must be the lower one"),
        (["sweep.space=[{model.depth:{uniform:[8,20]}}]"], "only keys that take fractions have ranges"),
        (["cluster.gpus_per_trial=-0.5"], "cluster.gpus_per_trial=-0.5; it must be at least 0"),
        (["ensemble=listed"], "ensemble.selection=listed with ensemble.members=[]; ensemble=listed needs the keys"),
        (["ensemble.members=[a]"], "every other selection chooses them itself"),
        (["ensemble=listed", "ensemble.members=[a,a]"], "each run can be listed once"),
        (["ensemble=listed", "ensemble.members=[a,b]", "ensemble.size=1"], "ensemble.members lists 2 runs"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(overrides, sentence):
    with pytest.raises(ValueError) as refused:
        from_dict(compose(ROOT, overrides)).check_composed()
    assert sentence in str(refused.value)


ELASTIC = ("trainer.launcher=ray", "trainer.elastic=true")
PUBLISHED = ("data=imagenet", "recipe=imagenet_90", "model.depth=50")


@pytest.mark.parametrize(
    "overrides",
    [
        ["recipe.schedule=multistep"],
        ["recipe.schedule=plateau", "recipe.plateau_patience=5", "trainer.val_every_epochs=1"],
        ["data=cifar10", "recipe=cifar_fast", "recipe.small_side=0"],
        [*PBT, "recipe.schedule=one_cycle", "recipe.warmup_fraction=0.2"],
        *([*PBT, f"recipe.max_steps={steps}", "sweep.interval_steps=0"] for steps in (1, 2, 3, 7, 97, 143, 2**31 - 1)),
        [*ELASTIC, "trainer.devices=8", "trainer.num_nodes=4"],
        ["cluster.gpus_per_trial=4"],
        ["data=voc", "model.backbone=resnet50"],
        ["data=voc", "model.backbone=plain34"],
        ["data=coco", "model.backbone=vgg16", "start.weights=torchvision:VGG19_Weights.IMAGENET1K_V1"],
        [*PUBLISHED, "start.weights=torchvision:resnet101", "sweep.space={seed:[3,4]}"],
    ],
)
def test_the_override_that_a_refusal_names_is_accepted(overrides):
    with pytest.raises(PipelineError) as refused:
        from_dict(values(*overrides)).check_composed()
    (advice,) = re.findall(r"\(override: (.+)\)$", str(refused.value))
    from_dict(values(*overrides, *advice.split())).check_composed()


@pytest.mark.parametrize(
    "overrides",
    [
        ["data=voc", "start.weights=torchvision:resnet101"],
        [*PUBLISHED, "start.weights=torchvision:ResNet50_Weights.DEFAULT", "sweep.space={seed:[3,4]}"],
        [*PUBLISHED, "start.weights=torchvision:resnet101", "sweep.space={model.depth:[101]}"],  # no trial is of the 50
    ],
)
def test_published_weights_may_be_those_of_the_net_or_of_a_sweeps_nets(overrides):
    from_dict(values(*overrides)).check_composed()


def test_an_unknown_family_of_nets_is_the_only_mistake_that_is_named():
    for data in ("digits", "cifar10"):
        with pytest.raises(PipelineError, match=r"\Amodel\.family='resnet50': Input should be 'cifar', .*\Z"):
            from_dict(values(f"data={data}", "model=resnet50"))


def test_keys_below_a_space_are_refused_with_the_space_that_has_them():
    words = ["sweep.space.model.depth=[8,14]", "+sweep.space.recipe.lr={uniform:[0.1,0.2]}", "sweep.space.seed=3,4"]
    with pytest.raises(PipelineError, match=r"\Asweep\.space\.model\.depth is no key; sweep\.space is") as refused:
        values(*words, "recipe.max_steps=60")
    (advice,) = shlex.split(re.findall(r"\(override: (.+)\)$", str(refused.value))[0])
    space = {"model.depth": [8, 14], "recipe.lr": {"uniform": [0.1, 0.2]}, "seed": [3, 4]}
    assert from_dict(values(advice)).sweep.space == space
    with pytest.raises(PipelineError, match=r"override: 'sweep\.search\.space=\{model\.depth:\[8\]\}'\)"):
        values("sweep.search.space.model.depth=[8]")
    with pytest.raises(PipelineError, match=r"sweep\.space names model, which is no key of the configuration;"):
        from_dict(values("sweep.space={model:[8]}"))


def test_a_batch_that_every_number_of_elastic_ranks_divides_is_named():
    overrides = (*ELASTIC, "trainer.devices=8")
    with pytest.raises(PipelineError, match="does not divide over 3 ranks") as refused:
        from_dict(values(*overrides))
    (batch,) = re.findall(r"; choose a multiple of (\d+)$", str(refused.value))
    assert from_dict(values(*overrides, f"recipe.batch_size={batch}")).recipe.batch_size == 840


SCHEDULES, SIDES = "{recipe.schedule:[multistep,one_cycle]}", "{recipe.small_side:[0,24]}"
FAST = ("data=cifar10", "recipe=cifar_fast")


@pytest.mark.parametrize(
    "overrides",
    [
        [f"sweep.space={SCHEDULES}"],
        [f"sweep.space={SCHEDULES}", "recipe.schedule=multistep"],
        ["sweep.space=[{seed:[0]},{recipe.schedule:[one_cycle]}]", "recipe.schedule=multistep"],
        [f"sweep.search={{space:{SCHEDULES},take:[recipe.schedule]}}", "sweep.space={model.depth:[8,14]}"],
        [*FAST, f"sweep.space={SIDES}"],
        [*FAST, f"sweep.space={SIDES}", "recipe.small_side=0"],
    ],
)
def test_what_some_trials_leave_unread_is_no_mistake(overrides):
    config = from_dict(values(*overrides))
    config.check_composed()
    ours, sweeps = config.sweep.search, [config]
    if ours:
        sweeps = [search.search_sweep(config, ours), *(search.main_sweep(config, v) for v in search.choices(ours))]
    for sweep in sweeps:
        for point in example_points(sweep.sweep.space):
            trial_config(sweep, point)


def test_what_a_run_was_given_and_did_not_read_does_not_keep_it_from_going_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    unread = "recipe.schedule=multistep"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(from_dict(values(unread)).to_dict()))
    assert main(["train", "--config", str(tmp_path / "config.yaml"), "--cfg", "job"]) == 0
    assert main(["train", unread, "start.checkpoint=0123456789ab", "--cfg", "job"]) == 0
    assert main(["train", unread, "--cfg", "job"]) == 2
    assert "recipe.warmup_fraction=0.25 with recipe.schedule=multistep" in capsys.readouterr().err


def test_several_mistakes_are_a_line_each():
    given = values()
    given["recipe"]["lr"], given["seed"] = "high", "many"
    del given["sweep"]["space"]
    with pytest.raises(ValueError) as refused:
        from_dict(given)
    mistakes = re.split("[= ].*\n?", str(refused.value))
    assert set(filter(None, mistakes)) == {"seed", "recipe.lr", "sweep.space"}
    assert "sweep.space has no value; set it in conf/ or on the command line" in str(refused.value)


def test_overridden_values_are_checked_again():
    config = from_dict(values())
    assert with_overrides(config, {"recipe.lr": 0.3, "seed": 2}).recipe.lr == 0.3
    with pytest.raises(ValueError, match="is not 6n"):
        with_overrides(config, {"model.depth": 9})


def test_paths_are_those_of_the_repository_in_its_temporary_copies_too(monkeypatch):
    config = from_dict(values())
    assert anchor(config, Path("/repo")).paths.runs == "/repo/runs"
    mine = from_dict(values("data=folder", "paths.runs=~/runs", "data.mirror=~/mirror"))
    assert anchor(mine, Path("/repo")).paths.runs == str(Path.home() / "runs")
    assert anchor(mine, Path("/repo")).data.mirror == str(Path.home() / "mirror")
    assert anchor(config, Path("/repo/.dvc/tmp/exps/standalone/tmpabc")).paths.runs == "/repo/runs"
    monkeypatch.setenv("PIPELINE_RUNS", "/shared/runs")
    assert anchor(config, Path("/repo")).paths.runs == "/shared/runs"
    monkeypatch.setenv("PIPELINE_RUNS", "")
    assert anchor(config, Path("/repo")).paths.runs == "/repo/runs"


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("", ""),
        ("sqlite:///mine/mlflow.db", "sqlite:////repo/mine/mlflow.db"),
        ("sqlite:////else/mlflow.db", "sqlite:////else/mlflow.db"),
        ("http://host:5000", "http://host:5000"),
        ("postgresql+psycopg://host/mlflow", "postgresql+psycopg://host/mlflow"),
        ("databricks", "databricks"),
    ],
)
def test_a_tracking_store_is_the_same_one_in_each_folder(uri, expected):
    assert anchor(from_dict(values(f"tracking.uri={uri}")), Path("/repo")).tracking.uri == expected


@pytest.mark.parametrize(
    ("override", "variable", "sentence"),
    [
        ("paths.runs=s3://bucket/runs", "", "paths.runs=s3://bucket/runs is a URL; it must be a folder"),
        ("seed=1", "gs://bucket", "PIPELINE_RUNS=gs://bucket is a URL; it must be a folder"),
        ("tracking.uri=sqlite:///:memory:", "", "is a store in memory.*name a file"),
        ("tracking.uri=localhost:5000", "", r"no scheme .*\(override: tracking\.uri=http://localhost:5000\)"),
        ("tracking.uri=htp://host:5000", "", r"no scheme .*\(override: tracking\.uri=http://host:5000\)"),
        ("tracking.uri=mlruns", "", r"refuses folders; .*\(override: tracking\.uri=sqlite:///mlruns/mlflow\.db\)"),
        ("tracking.uri=file:///mlruns", "", r"refuses folders; .*\(override: tracking\.uri=sqlite:///mlruns/"),
        ("paths.runs=''", "", r"paths\.runs is empty; .*\(override: paths\.runs=runs\)"),
        ("paths.mlruns=''", "", r"paths\.mlruns is empty; .*\(override: paths\.mlruns=mlruns\)"),
    ],
)
def test_a_place_that_cannot_hold_runs_is_refused_before_any_work(override, variable, sentence, monkeypatch):
    if variable:
        monkeypatch.setenv("PIPELINE_RUNS", variable)
    with pytest.raises(PipelineError, match=sentence):
        anchor(from_dict(values(override)), Path("/repo"))


def test_a_folder_of_mlflows_own_format_is_taken_where_mlflow_is_told_to(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert anchor(from_dict(values("tracking.uri=mlruns")), Path("/repo")).tracking.uri == "/repo/mlruns"
