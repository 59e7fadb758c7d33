"""The report's inputs."""

from __future__ import annotations

from dataclasses import replace

from samples import make_sample, unvalidated, with_nets

from pipeline.report.inputs import data_of


def test_the_ensemble_is_compared_with_the_best_member_on_validation_or_with_the_hardest_to_beat():
    inputs = make_sample()
    first, second, *rest = inputs.members
    chosen = with_nets(inputs, [first, replace(second, val_err1=0.01), *rest])
    assert chosen.best_member.run_id == second.run_id
    assert chosen.rival()[:2] == (chosen.best_member, inputs.ensemble["difference_to_best_member"]) and chosen.gain
    unknown = unvalidated(inputs)
    assert unknown.best_member is None and unknown.gain is None
    net, difference, _ = unknown.rival()
    assert net.test_err1 == min(member.test_err1 for member in inputs.members)
    assert difference["estimate"] == max(each["difference"]["estimate"] for _, each in unknown.against_members)


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
