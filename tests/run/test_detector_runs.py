"""Detectors train as classifiers do: broken off, on several ranks, from given weights; and what is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from imports import ROOT
from processes import Command, ranks
from runs import (
    PowerCut,
    assert_same_training,
    checkpoint,
    composed,
    configure_stored,
    cut,
    metrics,
    run_folder,
    same,
    save_net,
)

from benchmarks.synthetic import boxed_store
from pipeline.atomic import read_json
from pipeline.errors import PipelineError
from pipeline.learn.models import build_model
from pipeline.learn.training.divergence import DivergedError
from pipeline.record import Net
from pipeline.run.debug import debug
from pipeline.run.fit import _trainer, fit
from pipeline.run.launch import Launched
from pipeline.run.recorder import Recorder
from pipeline.run.weights import BEST, load_weights

EPOCH, STEPS = 4, 10  # the last epoch is cut short
COMMON = (
    *("trainer.accelerator=cpu", "trainer.threads=1", "trainer.log_every_steps=1", "trainer.val_every_epochs=1"),
    *("recipe.batch_size=4", f"recipe.max_steps={STEPS}", "tracking.system_metrics_every_s=0"),
)
DETECTOR = (
    *(
        "data=digit_scenes",
        "start.weights=''",
        "start.backbone_lr=1",
        "recipe.lr=0.002",
        "model.backbone=resnet8",
        "model.anchor=4",
        "recipe.rois=16",
        "recipe.augment.flip=true",
    ),
    *COMMON,
)
# Where sums are rounded otherwise, near ties between regions may be decided otherwise, and other regions learn. AdamW makes
# rounding large, since it divides by the size of gradients; a high rate draws the regions' scores apart.
CLOSE = ("recipe.optimizer=sgd", "recipe.lr=0.1", "recipe.max_steps=6")

Boxed = Callable[[], Path]


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory, mlflow_database: Path) -> Boxed:
    """Makes roots of a repository with a store of 16 training and 8 validation images in place of the scenes."""

    def make() -> Path:
        root = tmp_path_factory.mktemp("boxed")
        shutil.copytree(ROOT / "conf", root / "conf")
        shutil.copy(ROOT / "params.yaml", root)
        store = boxed_store(root / "data/store/digit_scenes")
        side = store.manifest.image_size
        configure_stored(root, "digit_scenes", source="folder", path="squares", image_size=side, num_test=0)
        (root / "mlruns").mkdir()
        shutil.copy(mlflow_database, root / "mlruns" / "mlflow.db")
        return root

    return make


def train(root: Path, *overrides: str, store: str = "digit_scenes", **options: Any) -> Net:
    return fit(composed(root, *DETECTOR, *overrides), root / "data/store" / store, track=False, **options)


@pytest.fixture(scope="module")
def whole(boxed: Boxed) -> Path:
    """The workspace of an uninterrupted training."""
    root = boxed()
    train(root)
    return root


@pytest.fixture(scope="module")
def one(boxed: Boxed) -> Path:
    """The workspace of a training that others come close to."""
    root = boxed()
    train(root, *CLOSE)
    return root


def test_the_record_says_what_was_trained_and_how_well(whole: Path) -> None:
    run = read_json(run_folder(whole) / "run.json")
    net = run["net"]
    assert (run["status"], net["steps"], net["complete"], net["num_classes"]) == ("finished", STEPS, True, 3)
    assert (net["model"]["family"], net["model"]["backbone"], net["model"]["depth"]) == ("faster_rcnn", "resnet8", 8)
    assert net["params"] == 86_880 and net["augment"]["kind"] == "whole"
    for step in (EPOCH, 2 * EPOCH, STEPS):
        ap, ap50 = (metrics(whole, f"val/{key}")[step] for key in ("ap", "ap50"))
        assert 0 <= metrics(whole, "val/ap75")[step] <= ap50 and 0 <= ap <= ap50 <= 1
        assert (metrics(whole, "val/err1")[step], metrics(whole, "val/err5")[step]) == (1 - ap, 1 - ap50)
    assert net["val_err1"] == min(metrics(whole, "val/err1").values()) < 1
    losses = {key: metrics(whole, f"train/{key}") for key in ("loss", "loss_proposals", "loss_regions")}
    assert all([*values] == [*range(1, STEPS + 1)] for values in losses.values())
    for step, loss in losses["loss"].items():
        assert loss == pytest.approx(losses["loss_proposals"][step] + losses["loss_regions"][step])


def test_the_saved_weights_are_a_detectors_with_batch_norm_as_it_was(whole: Path) -> None:
    state, net = load_weights(run_folder(whole) / BEST)
    detector = build_model(net.model, net.num_classes, net.in_channels)
    fresh = {key: value.clone() for key, value in detector.state_dict().items()}
    detector.load_state_dict(state)
    norms = [key for key in state if key.endswith(("running_mean", "running_var", "bn1.weight", "bn1.bias"))]
    assert norms and all(torch.equal(state[key], fresh[key]) for key in norms)


@pytest.mark.parametrize(
    ("where", "at", "before"),
    [
        ("on_train_batch_end", 6, False),  # inside an epoch, after the checkpoint of step 5
        ("on_validation_end", 1, False),  # best weights on disk, which the last checkpoint does not know
    ],
)
def test_a_training_that_is_cut_off_ends_as_the_unbroken_one(
    where: str, at: int, before: bool, boxed: Boxed, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = boxed()
    with monkeypatch.context() as patch, pytest.raises(PowerCut):
        cut(patch, Recorder, where, at, before)
        train(root, "trainer.checkpoint_every_steps=5")
    torch.manual_seed(99)
    assert train(root, "trainer.checkpoint_every_steps=5").complete
    assert_same_training(root, whole)
    for key in ("val/ap", "val/err1", "train/loss", "train/loss_regions"):
        assert metrics(root, key) == metrics(whole, key)


def test_on_a_gpu_cudnn_times_no_algorithms_for_a_detectors_many_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.run.fit.uses_cuda", lambda _: True)
    monkeypatch.setattr(pl, "Trainer", lambda **settings: settings)

    def timed(*overrides: str) -> bool:
        run = SimpleNamespace(config=composed(ROOT, *overrides), precision="fp32", folder=Path())
        made: Any = _trainer(SimpleNamespace(run=run, require=None), [], Launched())
        return made["benchmark"]

    assert timed(*COMMON) and not timed(*DETECTOR)


def test_accumulated_parts_train_the_same_images(boxed: Boxed, one: Path) -> None:
    root = boxed()
    train(root, *CLOSE, "recipe.accumulate=2")
    for step, loss in metrics(one, "train/loss").items():
        assert metrics(root, "train/loss")[step] == pytest.approx(loss, rel=1e-4)


def test_an_average_of_the_weights_is_what_is_validated_and_saved(boxed: Boxed, whole: Path) -> None:
    root = boxed()
    train(root, "recipe.ema=0.5", "trainer.val_every_epochs=9")  # only the last step is validated
    last = checkpoint(root)
    assert same(last["state_dict"], checkpoint(whole)["state_dict"])  # the training itself is the same
    saved, _ = load_weights(run_folder(root) / BEST)
    average = {name.removeprefix("average."): tensor for name, tensor in last["classifier"]["average"].items()}
    assert same(saved, average)
    assert metrics(root, "val/ap")[STEPS] != metrics(whole, "val/ap")[STEPS]  # which is that of the last weights


def test_a_rate_far_too_high_is_a_divergence_and_no_crash(boxed: Boxed) -> None:
    with pytest.raises(DivergedError):
        train(boxed(), "recipe.lr=1e6", "recipe.check_every_steps=2")


def assert_close(root: Path, other: Path) -> None:
    one, two = checkpoint(root)["state_dict"], checkpoint(other)["state_dict"]
    for name, values in one.items():
        torch.testing.assert_close(values, two[name], rtol=0, atol=1e-4, msg=f"{name} differs")
    for key in ("val/ap", "val/ap50", "train/loss"):
        assert metrics(root, key) == pytest.approx(metrics(other, key), abs=1e-4)


def on_two_ranks(root: Path, *overrides: str) -> None:
    for process in ranks(root, "train", *DETECTOR, *overrides):
        process.succeed()


def test_two_ranks_reach_the_weights_and_the_ap_of_one(boxed: Boxed, one: Path) -> None:
    root = boxed()
    on_two_ranks(root, *CLOSE)
    assert_close(root, one)


@pytest.fixture(scope="module")
def classifier(boxed: Boxed) -> Path:
    """Weights of a ResNet-8 that saw other images, whose batch norm has statistics of its own."""
    root = boxed()
    config = composed(root, "data=digits", "model.depth=8", "recipe.normalize=half")
    torch.manual_seed(5)
    net = build_model(config.model, 10, 1)
    with torch.no_grad():
        for _ in range(3):
            net(torch.randn(4, 1, 32, 32) + 1)
    record = Net(
        key="0" * 12,
        num_classes=10,
        in_channels=1,
        data="hash",
        split="holdout",  # type: ignore[arg-type]
        model=config.model,
        normalize="half",
        augment=config.recipe.augment,
    )
    save_net(net, root / "classifier.safetensors", record)
    return root / "classifier.safetensors"


def test_ranks_start_from_the_same_statistics_of_batch_norm(boxed: Boxed, classifier: Path) -> None:
    """Rank zero alone reads start.weights."""
    start = (*CLOSE, f"start.weights={classifier}", "recipe.lr=0.01")
    alone, together = boxed(), boxed()
    train(alone, *start)
    on_two_ranks(together, *start)
    assert_close(together, alone)


def test_a_classifiers_weights_become_the_backbone(boxed: Boxed, classifier: Path) -> None:
    root = boxed()
    net = train(root, f"start.weights={classifier}", "recipe.lr=1e-9", "recipe.weight_decay=0")
    assert net.start == "classifier.safetensors"
    theirs, _ = load_weights(classifier)
    ours = checkpoint(root)["state_dict"]
    for key, value in theirs.items():
        if not value.is_floating_point():  # batch norm's counter of batches
            continue
        names = {f"model.{part}.{key}" for part in ("backbone", "roi_heads.box_head")} & {*ours}
        assert len(names) == (0 if key.startswith("fc.") else 1)
        for name in names:
            torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6)


@pytest.mark.parametrize("family", ["faster_rcnn", "faster_rcnn_fpn"])
def test_a_frozen_backbone_keeps_the_classifiers_numbers_and_what_is_new_learns(
    boxed: Boxed, classifier: Path, family: str
) -> None:
    root, start = boxed(), (f"start.weights={classifier}", f"model.family={family}")
    train(root, *start, "start.backbone_lr=0")
    theirs, _ = load_weights(classifier)
    ours, first = checkpoint(root)["state_dict"], boxed()
    train(first, *start, "start.backbone_lr=0", "recipe.max_steps=1", "recipe.lr=1e-9")
    drawn = checkpoint(first)["state_dict"]
    kept = {name for name in drawn if torch.equal(ours[name], drawn[name])}
    for name in (each for each in drawn if drawn[each].is_floating_point()):  # without batch norm's counters
        taken = any(name.endswith(f".{key}") and torch.equal(drawn[name], value) for key, value in theirs.items())
        assert (name in kept) == taken, name


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["model.backbone=resnet20"], r"those of another net \(override: model.backbone=resnet8\)"),
        (["model.backbone=plain8"], r"those of another net \(override: model.backbone=resnet8\)"),
        (["model.shortcut_zeros=around"], r"those of another net \(override: model.shortcut_zeros=after\)"),
        (["recipe.normalize=unit"], r"another way than recipe.normalize=unit \(override: recipe.normalize=half\)"),
    ],
)
def test_weights_that_do_not_fit_the_backbone_are_refused_with_what_does(
    overrides: list[str], sentence: str, boxed: Boxed, classifier: Path
) -> None:
    root = boxed()
    with pytest.raises(PipelineError, match=sentence):
        train(root, f"start.weights={classifier}", *overrides)
    assert not (root / "runs").exists() or not list((root / "runs").glob("*/journal.jsonl"))


def test_a_detectors_weights_are_no_backbone(boxed: Boxed, whole: Path) -> None:
    with pytest.raises(PipelineError, match="are a detector's; start from a net that classifies"):
        train(boxed(), f"start.weights={run_folder(whole) / BEST}")


def test_fast_shows_whether_a_detector_trains(boxed: Boxed, capsys: pytest.CaptureFixture[str]) -> None:
    root = boxed()
    store = root / "data/store/digit_scenes"
    debug(composed(root, *DETECTOR, "trainer.debug=fast"), store, root / "trace.json")
    assert "8 steps went through, validation AP" in capsys.readouterr().out
    assert not list((root / "runs").glob("*"))


def test_nets_and_images_of_two_kinds_are_refused(boxed: Boxed, digits: Path) -> None:
    root = boxed()
    shutil.copytree(digits, root / "digits")
    with pytest.raises(PipelineError, match="has labels of images, and ResNet-8 Faster R-CNN learns boxes"):
        fit(composed(root, *DETECTOR), root / "digits/store/digits", track=False)
    with pytest.raises(PipelineError, match="squares has boxes of objects, and ResNet-8 learns one label an image"):
        classifies = ("data=digits", "model.depth=8", *COMMON)
        fit(composed(root, *classifies), root / "data/store/digit_scenes", track=False)


def test_a_sweep_over_backbones_trains_each(boxed: Boxed) -> None:
    root = boxed()
    Command(root, "sweep", *DETECTOR, "sweep.space={model.backbone:[resnet8,plain8]}").succeed()
    nets = [read_json(path)["net"] for path in (root / "runs").glob("*/run.json")]
    assert {net["model"]["backbone"]: net["model"]["residual"] for net in nets} == {"resnet8": True, "plain8": False}
    assert all(net["complete"] for net in nets)
