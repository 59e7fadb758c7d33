"""The report's inputs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from nets import make_model, make_net
from samples import make_sample, with_nets

from pipeline.report.inputs import data_of, kind_of


@pytest.mark.parametrize(
    ("family", "depth", "residual", "kind"),
    [("cifar", 56, True, "residual"), ("imagenet", 34, False, "plain"), ("vgg_bn_small", 16, False, "others")],
)
def test_predecessors_are_neither_plain_nor_residual(family, depth, residual, kind):
    assert kind_of(make_net(depth, model=make_model(depth, residual, family))) == kind


def test_the_best_member_is_the_one_evaluation_compared_with():
    inputs = make_sample()
    second = inputs.members[1]
    gain = {"estimate": 0.0, "ci95": [0.0, 0.0], "run_id": second.run_id}
    for name, value in (("run_id", second.run_id), ("checkpoint_sha256", second.checkpoint_sha256)):
        ensemble = {**inputs.ensemble, "difference_to_best_member": {**gain, "run_id": "", name: value}}
        assert with_nets(inputs, inputs.members, ensemble=ensemble).best_member == second
    ensemble = {**inputs.ensemble, "difference_to_best_member": None}
    best = with_nets(inputs, inputs.members, ensemble=ensemble).best_member
    assert best.val_err1 == min(member.val_err1 for member in inputs.members)


def test_runs_that_the_tracking_server_never_saw_stay_apart():
    inputs = make_sample()
    unseen = [replace(net, run_id="") for net in inputs.members]
    inputs = with_nets(inputs, unseen, replace(inputs.named_run, run_id=""))
    assert len(inputs.nets) == 5 and "" not in inputs.by_id


def test_validation_images_are_taken_from_the_training_images():
    manifest = {
        "name": "cifar10",
        "classes": ("cat", "dog"),
        "counts": {"train": 50_000, "test": 10_000},
        "split": {"num_val": 5_000, "seed": 0},
        "content_hash": "ab",
    }
    assert data_of(manifest)["counts"] == {"train": 45_000, "val": 5_000, "test": 10_000}
