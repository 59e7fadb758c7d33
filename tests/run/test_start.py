"""Training that starts from given weights: which ones, what learns how fast, what cannot be read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nets import make_detector, make_model
from runs import TINY, a_net, composed, run_folder, save_net, train
from safetensors.torch import save_file

from pipeline.atomic import read_json, write_json
from pipeline.config import ModelConfig, StartConfig, with_overrides
from pipeline.data.store import open_store
from pipeline.errors import DamagedError, PipelineError
from pipeline.learn.models import build_model
from pipeline.record import Net
from pipeline.run import RUN
from pipeline.run.inputs import Input, Resize
from pipeline.run.run import identify
from pipeline.run.sources import FOLDER, anchored, weights_title
from pipeline.run.start import Start, read_weights, start_title, starting_point
from pipeline.run.weights import BEST, load_weights, save_weights
from pipeline.stages.sweep import located
from pipeline.tracking.journal import Journal
from pipeline.tracking.location import KEY_TAG, NET_TAG, Location, locate
from pipeline.tracking.shipper import ship
from pipeline.tuning.sweep import checked
from pipeline.workspace import Workspace


@pytest.fixture
def net():
    torch.manual_seed(3)
    return build_model(make_model(8), 10, 1)


def test_weights_are_read_whatever_file_holds_them(net, tmp_path: Path):
    torch.save(net.state_dict(), tmp_path / "plain.pth")
    torch.save({"state_dict": net.state_dict(), "epoch": 3}, tmp_path / "checkpoint.th")
    torch.save(net.state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    save_file(net.state_dict(), tmp_path / "weights.safetensors")
    fingerprints = [Start(str(path), read_weights(path)).fingerprint for path in sorted(tmp_path.iterdir())]
    assert len(fingerprints) == 4 and len(set(fingerprints)) == 1


def test_what_is_not_there_is_named_with_what_may_be_given(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="no such file; give a file, run:<key or MLflow's id of a run>"):
        starting_point("absent.pth", tmp_path, None)
    with pytest.raises(FileNotFoundError, match=r"abc/best\.safetensors is missing"):
        starting_point("run:abc", tmp_path, None)
    with pytest.raises(ValueError, match=r"torchvision has no such weights; a model .*resnet50"):
        starting_point("torchvision:resnet51", tmp_path, None)
    assert starting_point("", tmp_path, None) is None


@pytest.mark.parametrize(
    ("model", "given", "advice"),
    [
        (make_detector("resnet18"), "resnet101", "torchvision:resnet18"),
        (make_detector("vgg16_bn"), "VGG16_Weights.IMAGENET1K_V1", "torchvision:vgg16_bn"),
        (make_model(50), "ResNet18_Weights.DEFAULT", "torchvision:resnet50"),
        (make_model(8, family="alexnet", residual=False), "vgg11", "torchvision:alexnet"),
        (make_model(18, residual=False), "resnet18", ""),
        (make_detector("plain20"), "resnet18", ""),
        (make_detector("vgg16"), "VGG16_Weights.IMAGENET1K_FEATURES", "torchvision:VGG16_Weights.IMAGENET1K_V1"),
    ],
)
def test_published_weights_of_another_net_or_without_a_classifier_are_not_downloaded(
    model: ModelConfig, given: str, advice: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def loaded(url: str, **_: object) -> dict[str, torch.Tensor]:
        raise OSError(f"{url} was asked for")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", loaded)
    with pytest.raises(ValueError, match=re.escape(f"(override: start.weights={advice})")):
        starting_point(f"torchvision:{given}", tmp_path, None, model)
    if advice:
        with pytest.raises(ValueError, match="was asked for"):
            starting_point(advice, tmp_path, None, model)


def kept(net, path: Path, input: Input | None = None, **facts) -> Start:
    if input is None:
        save_net(net, path, a_net(**facts))
    else:
        save_weights(net, path, a_net(**facts), input=input)
    return starting_point(str(path), path.parent, None)


def test_weights_of_another_number_of_classes_name_both_and_what_takes_them(net):
    start, fewer = Start("net.pth", net.state_dict()), build_model(make_model(8), 7, 1)
    with pytest.raises(
        PipelineError, match=r"net\.pth do not fit the net: they name 10 classes, and the data set has 7; .*head=new"
    ):
        start.load_into(fewer, head=True)
    start.load_into(fewer, head=False)  # the remedy
    torch.testing.assert_close(fewer.layer3[0].conv2.weight, net.layer3[0].conv2.weight)
    with pytest.raises(PipelineError, match="its weights are those of 8 layers: choose model"):
        start.load_into(build_model(make_model(14), 7, 1), head=True)
    odd = {name.replace("fc.", "logits."): tensor for name, tensor in net.state_dict().items()}
    with pytest.raises(PipelineError, match=r"it lacks fc\.weight, fc\.bias; it has logits"):
        Start("net.pth", odd).load_into(build_model(make_model(8), 10, 1), head=True)


def test_weights_that_fit_another_wiring_are_refused(workspace, net, tmp_path: Path):
    config = composed(workspace(), "model.depth=8")
    start = kept(net, tmp_path / "net.safetensors", model=config.model)
    start.check(config, "hash", frozen=True)
    for change in ("model.residual=false", "model.shortcut_zeros=around"):
        key, value = change.split("=")
        other = with_overrides(config, {key: {"false": False}.get(value, value)})
        with pytest.raises(ValueError, match=rf"those of another net \(override: {key}=(true|after)\)"):
            start.check(other, "hash", frozen=False)
    plain = kept(net, tmp_path / "plain.safetensors", model=replace(config.model, residual=False))
    unpadded = with_overrides(config, {"model.residual": False, "model.shortcut_zeros": "around"})
    plain.check(unpadded, "hash", frozen=False)  # a plain net pads nothing


def test_advice_names_only_the_wiring_that_a_net_has(workspace, tmp_path: Path):
    theirs = make_model(18, shortcut="B")
    start = Start("run:abc", {}, net=a_net(model=theirs))
    wanted = (
        "data=imagenet",
        "data.path=/images",
        "model.depth=34",
        "model.stride_on=3x3",
        "model.shortcut_zeros=around",
    )
    with pytest.raises(ValueError, match=re.escape("another net (override: model.depth=18)")):
        start.check(composed(workspace(), *wanted), "hash", frozen=False)


def test_pixels_of_layers_that_stay_are_normalised_as_they_were(workspace, net, tmp_path: Path):
    config = composed(workspace(), "model.depth=8")
    start = kept(net, tmp_path / "net.safetensors", model=config.model, normalize="half")
    start.check(config, "hash", frozen=False)
    with pytest.raises(ValueError, match=r"override: recipe\.normalize=half"):
        start.check(config, "hash", frozen=True)
    with pytest.raises(ValueError, match=r"override: model\.stride_on=3x3"):
        Start("torchvision:resnet50", {}).check(
            with_overrides(config, {"model.family": "imagenet", "model.depth": 50}), "hash", frozen=False
        )


def test_a_frozen_backbone_takes_pixels_as_it_was_trained_on_them(workspace, net, tmp_path: Path):
    root = workspace()
    file, store = tmp_path / "net.safetensors", root / "data/store/digits"
    start = kept(net, file, model=composed(root, *TINY).model, normalize="channel")
    given = (*TINY, f"start.weights={file}")
    learns = identify(composed(root, *given), store, track=False)
    assert learns.net.started == learns.start.fingerprint == start.fingerprint
    with pytest.raises(PipelineError, match=r"override: recipe\.normalize=channel"):
        identify(composed(root, *given, "start.backbone_lr=0"), store, track=False)


DIGITS = tuple("0123456789")


def test_a_training_on_digits_starts_from_no_net_that_saw_others_of_them(workspace, net, tmp_path: Path):
    root = workspace()
    file, store = tmp_path / "net.safetensors", root / "data/store/digits"
    config = composed(root, *TINY, f"start.weights={file}")
    resize = Resize(format="arrays", image_size=8, test_side=0, shape=(8, 8, 1))
    images = Input(classes=DIGITS, resize=resize, mean=torch.zeros(1, 1, 1), std=torch.ones(1))
    kept(net, file, images, model=config.model, data="objects")
    with pytest.raises(PipelineError, match="digits would test or validate with some of their training images"):
        identify(config, store, track=False)
    kept(net, file, images, model=config.model, data=open_store(store).manifest.content_hash)
    assert identify(config, store, track=False).start.classes == DIGITS
    letters = replace(images, classes=tuple("abcdefghij"))
    kept(net, file, letters, model=config.model, data="letters")
    assert identify(config, store, track=False).key


@pytest.mark.parametrize(
    ("chosen", "held"),
    [
        ("data=folder data.path=/images", "validation and test"),
        ("data=folder data.path=/images data.split=full", "test"),
        ("data=cifar10", "validation"),  # whose test set is published
        ("data=cifar10 data.split=full", ""),
        ("data=digit_scenes", ""),
    ],
)
def test_weights_of_other_images_of_the_same_classes_cause_a_warning(
    chosen: str, held: str, workspace, capsys: pytest.CaptureFixture[str]
):
    config = composed(workspace(), *chosen.split())
    start = Start("run:abc", {}, net=a_net(model=config.model.net, data="theirs"), classes=("cat", "dog"))
    start.check(config, "theirs", False, ("cat", "dog"))
    start.check(config, "ours", False, ("cat", "cow"))
    assert capsys.readouterr().err == ""
    start.check(config, "ours", False, ("cat", "dog"))
    warning = f"of the same classes; this store's {held} images may be among them\n"
    assert capsys.readouterr().err == (f"start.weights=run:abc were trained on other images {warning}" if held else "")


def test_weights_that_saw_the_validation_images_choose_nothing_even_by_way_of_another_data_set(
    workspace, net, tmp_path: Path
):
    full, holdout = (composed(workspace(), "model.depth=8", f"data.split={split}") for split in ("full", "holdout"))
    first = kept(net, tmp_path / "first.safetensors", model=full.model, split="full", data="a", seen=("a",))
    second = kept(net, tmp_path / "second.safetensors", model=full.model, data="b", seen=first.seen)
    for start in (first, second):
        with pytest.raises(ValueError, match=r"trained on the validation images.*override: data\.split=full"):
            start.check(holdout, "a", frozen=False)
        start.check(full, "a", frozen=False)
        start.check(holdout, "c", frozen=False)


def test_published_weights_saw_all_of_imagenets_training_images(workspace):
    imagenet = ("data=imagenet", "recipe=imagenet_90", "data.path=/images", "model.stride_on=3x3", "model.depth=50")
    full, holdout = (composed(workspace(), *imagenet, f"data.split={split}") for split in ("full", "holdout"))
    published = Start("torchvision:resnet50", {})
    with pytest.raises(ValueError, match=r"trained on the validation images.*override: data\.split=full"):
        published.check(holdout, "hash", frozen=False)
    published.check(full, "hash", frozen=False)
    with pytest.raises(ValueError, match="trained on the validation images"):
        published.check(with_overrides(holdout, {"data.name": "ilsvrc"}), "hash", frozen=False)


COPY = ".dvc/tmp/exps/standalone/tmpabc"  # of the repository, in which `dvc exp run --temp` works


@pytest.mark.parametrize("at", ["", COPY])
def test_a_relative_file_is_the_repositorys_in_dvcs_copy_of_it_too(at: str, tmp_path: Path):
    workspace = Workspace(tmp_path / at, "digits")
    (tmp_path / FOLDER).mkdir(parents=True)
    (tmp_path / FOLDER / "net.safetensors").write_bytes(b"")
    assert anchored("a/b.pth", workspace) == str(tmp_path / "a/b.pth")
    assert anchored("published:net", workspace) == str(tmp_path / FOLDER / "net.safetensors")
    assert anchored("~/b.pth", workspace) == str(Path.home() / "b.pth")
    for kept in ("", "run:abc", "run:abc,def", "torchvision:resnet18", "/a/b.pth"):
        assert anchored(kept, workspace) == kept


def test_a_sweep_from_a_relative_file_is_the_same_in_dvcs_copy(workspace):
    root = workspace()
    config = composed(root, "start.weights=a.pth", "sweep.space={start.weights:[a.pth,b.pth]}")
    names = {checked(located(config, Workspace(root / at)), root / "data/store/digits").name for at in ("", COPY)}
    assert len(names) == 1


def test_a_sweep_is_what_pretrain_made_of_it_or_else_its_finished_trials(tmp_path: Path):
    workspace, other = Workspace(tmp_path, "digits"), Workspace(tmp_path, "others")
    with pytest.raises(FileNotFoundError, match=r"experiments/others/leaderboard.json is missing; `pipeline pretrain`"):
        anchored("sweep:others", workspace)
    statuses = {"b": "finished", "x": "stopped", "": "unfinished", "a": "finished"}
    trials = [{"key": key, "status": status} for key, status in statuses.items()]
    write_json(other.leaderboard, {"trials": trials})
    assert anchored("sweep:others", workspace) == "run:b,a"
    write_json(other.leaderboard, {"trials": trials[1:3]})
    with pytest.raises(PipelineError, match="no trial of that sweep has finished; `pipeline sweep data=others`"):
        anchored("sweep:others", workspace)
    listed = [{"data": "others", "key": "c"}, {"data": "more", "key": "d"}]
    write_json(workspace.result("pretrained"), {"runs": listed})  # what DVC takes later stages to depend on
    assert anchored("sweep:others", workspace) == "run:c"


def several(runs: Path, config) -> str:
    """start.weights of runs of two nets, of which the plain one has two seeds."""
    residual, plain = config.model, replace(config.model, residual=False)
    errors = [(plain, 0, 0.03), (residual, 0, 0.02), (plain, 3, 0.04), (plain, 4, 0.01)]
    for at, (model, seed, error) in enumerate(errors):
        state = build_model(model, 10, 1)
        save_net(state, runs / f"run{at}" / BEST, a_net(model=model, seed=seed, val_err1=error, key=f"run{at}"))
    return "run:" + ",".join(f"run{at}" for at in range(len(errors)))


def test_of_several_runs_the_one_of_this_net_and_seed_is_taken_else_the_best(workspace, tmp_path: Path):
    config = composed(workspace(), "model.depth=8")
    source, plain = several(tmp_path, config), replace(config.model, residual=False)
    for model, seed, key in ((plain, 0, "run0"), (plain, 3, "run2"), (plain, 9, "run3"), (config.model, 9, "run1")):
        found = starting_point(source, tmp_path, None, model, seed)
        assert found and found.source == f"run:{key}" and found.net.model == model
    assert starting_point(source, tmp_path, None).source == "run:run3"  # for any net


def test_nets_that_start_from_runs_of_one_sweep_start_alike_also_where_newer_code_has_repeated_it(
    workspace, tmp_path: Path
):
    config = composed(workspace(), "model.depth=8")
    first, again = ((several(tmp_path / name, config), tmp_path / name) for name in ("first", "again"))
    starts = [
        starting_point(*given, None, model, seed)
        for given in (first, again)
        for model, seed in ((config.model, 0), (replace(config.model, residual=False), 3))
    ]
    assert len({start.fingerprint for start in starts}) == 4 and len({start.identity for start in starts}) == 1
    some, others = (starting_point(f"run:run0,{run}", first[1], None).identity for run in ("run1", "run2"))
    assert some != others and starts[0].identity not in (some, others)
    alone = starting_point("run:run2", first[1], None)
    assert alone.identity == alone.fingerprint


def unfinished(runs: Path, key: str) -> Path:
    save_net(build_model(make_model(8), 10, 1), best := runs / key / BEST, a_net(key=key))
    write_json(best.with_name(RUN), {"key": key, "status": "running"})
    return best


def test_a_run_that_goes_on_gives_no_weights_and_the_remedy_works(workspace, tmp_path: Path):
    source, best = several(tmp_path, composed(workspace(), "model.depth=8")), unfinished(tmp_path, "0abc")
    for given in ("run:0abc", f"{source},0abc"):
        with pytest.raises(PipelineError, match=r"run:0abc: the run has not finished \(its status is run") as told:
            starting_point(given, tmp_path, None)
        (remedy,) = re.findall(r"start\.weights=(/\S+)", str(told.value))
        assert starting_point(remedy, tmp_path, None).net.key == "0abc"
    for status in ("finished", "stopped"):  # the latter by a sweep's scheduler
        write_json(best.with_name(RUN), {**read_json(best.with_name(RUN)), "status": status})
        assert starting_point("run:0abc", tmp_path, None).net.key == "0abc"


def test_a_run_that_mlflow_alone_has_and_that_goes_on_gives_none_either(location: Location, tmp_path: Path):
    journal = Journal(tmp_path / "elsewhere")
    journal.begin("a run", "digits", {}, {KEY_TAG: "0abc", NET_TAG: a_net(key="0abc").to_tag()})
    ship(tmp_path / "elsewhere", location)
    for given in ("run:0abc", "run:0abc,0def"):
        with pytest.raises(PipelineError, match=r"run:0abc: the run has not finished \(its status is running\)"):
            starting_point(given, tmp_path / "runs", location)


def test_where_no_run_is_of_this_net_their_nets_are_named_and_the_remedy_works(workspace, tmp_path: Path):
    config = composed(workspace(), "model.depth=14")
    source = several(tmp_path, composed(workspace(), "model.depth=8"))
    with pytest.raises(
        PipelineError, match=r"none of the 4 runs .* of ResNet-14; they are of plain-8, ResNet-8"
    ) as told:
        starting_point(source, tmp_path, None, config.model, 0)
    (words,) = re.findall(r"\(override: (.*)\)", str(told.value))
    assert starting_point(source, tmp_path, None, composed(workspace(), *words.split()).model, 0).source == "run:run1"
    with pytest.raises(FileNotFoundError, match=r"gone/best.safetensors is missing"):
        starting_point(f"{source},gone", tmp_path, None, config.model, 0)


def test_a_damaged_run_among_several_is_named(workspace, tmp_path: Path):
    config = composed(workspace(), "model.depth=8")
    source, damaged = several(tmp_path, config), tmp_path / "run2" / BEST
    damaged.write_bytes(damaged.read_bytes().replace(b"num_classes", b"num_glasses"))
    with pytest.raises(DamagedError, match=rf"run2/{BEST} holds no record of a net .*; copy the file again"):
        starting_point(source, tmp_path, None, config.model, 0)


def test_of_several_runs_mlflow_knows_those_whose_weights_are_elsewhere(reference: Path, tmp_path: Path):
    config = composed(reference, *TINY)
    key, location = run_folder(reference).name, locate("", reference / "mlruns")
    save_net(build_model(make_model(14), 10, 1), tmp_path / "here" / BEST, a_net(model=make_model(14), key="here"))
    found = starting_point(f"run:here,{key}", tmp_path, location, config.model, 0)
    assert found and (found.source, found.net.key) == (f"run:{key}", key)


def test_several_runs_have_a_short_title():
    assert weights_title("run:a,b") == "one of 2 runs"
    assert start_title(StartConfig(weights="run:a,b,c", backbone_lr=0)) == "one of 3 runs, frozen"
    assert start_title(StartConfig(weights="run:a")) == "run:a"


def trained(root: Path, *overrides: str) -> tuple[dict, Net]:
    key = train(root, "recipe.max_steps=17", *overrides).key
    return load_weights(root / "runs" / key / "best.safetensors")


def test_a_frozen_backbone_keeps_every_number_and_only_the_head_learns(workspace, net, tmp_path: Path):
    torch.save(net.state_dict(), tmp_path / "net.pth")
    state, _ = trained(workspace(), f"start.weights={tmp_path}/net.pth", "start.backbone_lr=0", "start.head=kept")
    own = net.state_dict()
    changed = {
        name for name in own if not name.endswith("num_batches_tracked") and not torch.equal(state[name], own[name])
    }
    assert changed == {"fc.weight", "fc.bias"}


def test_a_lower_rate_moves_the_backbone_less_than_the_head(workspace, net, tmp_path: Path):
    torch.save(net.state_dict(), tmp_path / "net.pth")
    own, moved = net.state_dict(), {}
    for share in (0.01, 1.0):
        given = (f"start.weights={tmp_path}/net.pth", f"start.backbone_lr={share}", "start.head=kept")
        state, _ = trained(workspace(), *given, "recipe.weight_decay=0")
        moved[share] = (state["layer2.0.conv1.weight"] - own["layer2.0.conv1.weight"]).norm()
    assert 0 < moved[0.01] < 0.1 * moved[1.0]


def test_a_run_gives_its_weights_and_a_new_head_is_the_seeds_own(workspace, net):
    root = workspace()
    first, record = trained(root)
    again, _ = trained(root, f"start.weights=run:{record.key}", "start.head=kept", "recipe.lr=1.0e-9")
    torch.testing.assert_close(again["layer3.0.conv2.weight"], first["layer3.0.conv2.weight"], atol=1e-6, rtol=0)
    torch.testing.assert_close(again["fc.weight"], first["fc.weight"], atol=1e-6, rtol=0)
    fresh, _ = trained(root, f"start.weights=run:{record.key}", "recipe.lr=1.0e-9", "seed=3")  # the seed of `net`
    torch.testing.assert_close(fresh["fc.weight"], net.fc.weight, atol=1e-6, rtol=0)
    torch.testing.assert_close(fresh["layer3.0.conv2.weight"], first["layer3.0.conv2.weight"], atol=1e-6, rtol=0)


def test_other_weights_are_another_run_and_the_same_ones_elsewhere_the_same(workspace, net, tmp_path: Path):
    torch.save(net.state_dict(), tmp_path / "net.pth")
    save_file(net.state_dict(), tmp_path / "copy.safetensors")
    keys = []
    for overrides in ((), (f"start.weights={tmp_path}/net.pth",), (f"start.weights={tmp_path}/copy.safetensors",)):
        root = workspace()
        trained(root, *overrides)
        keys.append(run_folder(root).name)
    assert keys[0] != keys[1] == keys[2]


@pytest.mark.parametrize(
    "damaged",
    [
        lambda whole: whole[:-1] + b"?",
        lambda whole: whole[:-5],
        lambda whole: whole[:100],
        lambda whole: b"",
        lambda whole: whole.replace(b"num_classes", b"num_glasses"),
        lambda whole: whole.replace(b'"pipeline"', b'"pipelime"'),
    ],
    ids=["last byte", "short", "header cut", "empty", "field of the record", "key of the record"],
)
def test_where_a_runs_weights_are_damaged_mlflows_copy_is_used_and_said(
    damaged: Callable[[bytes], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    local, copy = tmp_path / "run" / BEST, tmp_path / "copy"
    save_net(torch.nn.Linear(3, 2), local, a_net())
    copy.write_bytes(local.read_bytes())
    local.write_bytes(damaged(copy.read_bytes()))
    assert local.read_bytes() != copy.read_bytes()
    with pytest.raises(DamagedError, match=f"{BEST} is damaged .*; copy the file again, or train the net again"):
        starting_point("run:run", tmp_path, None)
    monkeypatch.setattr("pipeline.run.start._tracked", lambda *_: copy)
    found = starting_point("run:run", tmp_path, Location("sqlite:///none"))
    assert found and replace(found.net, checkpoint_sha256="") == a_net()
    assert "now MLflow's copy is used" in capsys.readouterr().err
