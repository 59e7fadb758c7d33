"""Nets made elsewhere: mapped, validated, told to MLflow, found by the ensemble."""

from __future__ import annotations

import pytest
import torch
from runs import composed, tracked

from pipeline.cli import USER_ERROR, main
from pipeline.data.store import open_store
from pipeline.ensemble.adopted import adopt
from pipeline.learn.models import build_model
from pipeline.stages import adopt as stage
from pipeline.tracking.location import locate
from pipeline.tracking.registry import trained_nets
from pipeline.workspace import Workspace


@pytest.fixture
def theirs(tmp_path):
    torch.manual_seed(1)
    net = build_model("cifar", 8, num_classes=10, in_channels=1)
    state = {f"module.{name.replace('fc.', 'linear.')}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "resnet8.th")
    return tmp_path / "resnet8.th"


def adopted(root, *overrides):
    config = composed(root, "model.depth=8", "trainer.accelerator=cpu", *overrides)
    location = locate(config.tracking.uri, config.paths.mlruns)
    return adopt(config, root / "data/store/digits", root / "runs", location, {}), location


def test_an_adopted_net_is_a_candidate_with_its_own_validation_error(workspace, theirs):
    root = workspace()
    made, location = adopted(root, f"start.weights={theirs}", "recipe.normalize=channel")
    manifest = open_store(root / "data/store/digits").manifest
    (found,) = trained_nets(location, "digits", manifest.content_hash, "holdout")
    assert (found.key, found.name, found.lr, found.seed, found.steps) == (made.key, "ResNet-8", None, None, 0)
    assert found.val_err1 == made.val_err1 and 0.5 < made.val_err1 < 1  # random weights
    (run,) = tracked(root)
    assert run.tags["pipeline.kind"] == "adopted" and run.tags["pipeline.source"].startswith("resnet8.th (")


def test_the_same_weights_are_the_same_run_and_another_normalisation_another(workspace, theirs):
    root = workspace()
    first, _ = adopted(root, f"start.weights={theirs}", "recipe.normalize=channel")
    again, _ = adopted(root, f"start.weights={theirs}", "recipe.normalize=channel")
    other, _ = adopted(root, f"start.weights={theirs}", "recipe.normalize=unit")
    assert first == again and other.key != first.key and other.val_err5 != first.val_err5
    assert len(tracked(root)) == 2


def test_weights_that_have_seen_the_validation_images_are_never_chosen(workspace, theirs, capsys):
    root = workspace()
    config = composed(root, "model.depth=8", f"start.weights={theirs}", "data.split=full", "trainer.accelerator=cpu")
    stage.run(config, Workspace(root, config.data.name))
    told = capsys.readouterr().out
    assert "nothing chooses it" in told
    assert (
        "recipe.normalize=per_pixel_mean) or wired it otherwise (model.shortcut_zeros=after" in told
    )  # untrained, it guesses
    (run,) = tracked(root)
    assert "best/err1" not in run.metrics
    manifest = open_store(root / "data/store/digits").manifest
    nets = {
        split: trained_nets(locate("", root / "mlruns"), "digits", manifest.content_hash, split)
        for split in ("holdout", "full")
    }
    assert not nets["holdout"]
    assert [(net.key, net.val_err1) for net in nets["full"]] == [(run.tags["pipeline.key"], None)]


def test_what_only_training_reads_makes_no_other_net(workspace, theirs):
    root = workspace()
    keys = [
        adopted(root, f"start.weights={theirs}", *more)[0].key
        for more in ((), ("recipe.augment.padding=2",), ("model.init_fan=fan_out",), ("model.shortcut_zeros=around",))
    ]
    assert keys[0] == keys[1] == keys[2] != keys[3]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ((), "adopt needs weights: start.weights=FILE"),
        (("model.depth=14", "start.weights={}"), "its weights are those of 8 layers: choose model.* for them"),
        (("model.depth=8", "start.weights={}", "recipe.normalize=imagenet"), "is of RGB images, these have 1 channel"),
    ],
)
def test_a_mistake_is_one_sentence(workspace, theirs, monkeypatch, capsys, overrides, sentence):
    monkeypatch.chdir(workspace())
    assert main(["adopt", *[o.format(theirs) for o in overrides]]) == USER_ERROR
    assert sentence in capsys.readouterr().err
