"""Nets made elsewhere: renamed weights, validation errors, a run in MLflow, a candidate of the ensemble."""

from __future__ import annotations

import pytest
import torch
from nets import make_model
from runs import composed, tracked

from pipeline.cli import USER_ERROR, main
from pipeline.data.store import open_store
from pipeline.ensemble.adopted import adopt
from pipeline.ensemble.members import Source
from pipeline.learn.models import build_model
from pipeline.stages import adopt as stage
from pipeline.tracking.location import locate
from pipeline.tracking.registry import trained_nets
from pipeline.workspace import Workspace


@pytest.fixture
def theirs(tmp_path):
    torch.manual_seed(1)
    net = build_model(make_model(8), 10, 1)
    state = {f"module.{name.replace('fc.', 'linear.')}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": state, "best_prec1": 91.7}, tmp_path / "resnet8.th")
    return tmp_path / "resnet8.th"


def adopted(root, *overrides):
    config = composed(root, "model.depth=8", "trainer.accelerator=cpu", *overrides)
    source = Source.configured(config, root / "data/store/digits")
    return adopt(config, source, {}), source


def test_an_adopted_net_is_a_candidate_with_its_own_validation_error(workspace, theirs):
    root = workspace()
    made, source = adopted(root, f"start.weights={theirs}", "recipe.normalize=channel")
    (net,) = source.candidates()
    assert (net.key, net.name, net.lr, net.seed, net.steps) == (made.net.key, "ResNet-8", None, None, 0)
    assert net.val_err1 == made.val_err1 and 0.5 < made.val_err1 < 1  # random weights
    (run,) = tracked(root)
    assert run.tags["pipeline.kind"] == "adopted" and run.tags["pipeline.source"].startswith("resnet8.th (")


def test_the_key_hashes_the_weights_and_what_decides_predictions(workspace, theirs):
    root, weights = workspace(), f"start.weights={theirs}"
    first, again, other = (adopted(root, weights, f"recipe.normalize={n}")[0] for n in ("channel", "channel", "unit"))
    assert first == again and other.net.key != first.net.key and other.val_err5 != first.val_err5
    assert len(tracked(root)) == 2
    keys = [
        adopted(root, weights, *more)[0].net.key
        for more in (
            (),
            ("recipe.augment.padding=2",),
            ("model.init_fan=fan_out", "model.norm_scale=uniform"),
            ("model.shortcut_zeros=around",),
        )
    ]
    assert keys[0] == keys[1] == keys[2] != keys[3]


def test_an_adopted_net_stays_when_later_code_adopts_another_of_its_kind(workspace, theirs, tmp_path, monkeypatch):
    root = workspace()
    first, source = adopted(root, f"start.weights={theirs}")
    torch.manual_seed(2)
    torch.save(build_model(make_model(8), 10, 1).state_dict(), tmp_path / "other.pth")
    monkeypatch.setattr("pipeline.run.run.code_version", lambda detects: "later")
    second, _ = adopted(root, f"start.weights={tmp_path}/other.pth")
    keys = {first.net.key, second.net.key}
    assert len(keys) == 2
    assert {net.key for net in source.candidates()} == {net.key for net in source.finished()} == keys
    assert {net.code for net in source.finished()} == {""}


def test_weights_that_were_trained_on_the_validation_images_are_never_chosen(workspace, theirs, capsys):
    root = workspace()
    config = composed(root, "model.depth=8", f"start.weights={theirs}", "data.split=full", "trainer.accelerator=cpu")
    stage.run(config, Workspace(root, config.data.name))
    out = capsys.readouterr().out
    assert "no selection chooses it" in out
    assert "This error is high" in out and "recipe.normalize=per_pixel_mean" in out  # untrained, the net guesses
    (run,) = tracked(root)
    assert "best_val_err1" not in run.metrics
    manifest = open_store(root / "data/store/digits").manifest
    nets = {
        split: trained_nets(locate("", root / "mlruns"), "digits", manifest.content_hash, split)
        for split in ("holdout", "full")
    }
    assert not nets["holdout"]
    assert [(net.key, net.val_err1) for net in nets["full"]] == [(run.tags["pipeline.key"], None)]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        ((), "adopt needs weights: start.weights=FILE"),
        (("model.depth=14", "start.weights={}"), "its weights are those of 8 layers: choose model.* for them"),
        (
            ("model.depth=8", "start.weights={}", "recipe.normalize=imagenet"),
            "is for RGB images, but these have 1 channel",
        ),
    ],
)
def test_a_mistake_is_one_sentence(workspace, theirs, monkeypatch, capsys, overrides, sentence):
    monkeypatch.chdir(workspace())
    assert main(["adopt", *[o.format(theirs) for o in overrides]]) == USER_ERROR
    assert sentence in capsys.readouterr().err
